"""The canvas of drawn products: supersampled coverage of outlines and strokes, and parts painted over one another.

A product is described in its own units, about [-1, 1] on both axes with y downwards; `Placement` maps them to the
picture. Colours are float32 in [0, 1], coverage is float32 in [0, 1].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pipelines.synthesis.products.outlines import Points

#: Outlines are filled this many times larger and then averaged.
OVERSAMPLING = 3

Colour = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Placement:
    """A map from product units to pixels: about (centre_x, centre_y), `scale` pixels a unit, turned and mirrored.

    `limp` is the distance, in units, by which cloth has slipped from its symmetric shape; `phase` is its direction.
    """

    centre_x: float
    centre_y: float
    scale: float
    radians: float = 0.0
    mirror: bool = False
    limp: float = 0.0
    phase: float = 0.0

    def to_pixels(self, points: Points) -> np.ndarray:
        """Return float (N, 2) pixels, x before y, of float (N, 2) product units."""
        units = np.asarray(points, dtype=np.float64)
        if self.limp:
            units = units + np.stack(self._slip(units[:, 0], units[:, 1]), axis=1)
        units = units * np.array([-1.0 if self.mirror else 1.0, 1.0])
        cosine, sine = math.cos(self.radians), math.sin(self.radians)
        turned = units @ np.array([[cosine, sine], [-sine, cosine]])
        return turned * self.scale + np.array([self.centre_x, self.centre_y])

    def to_units(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return product coordinates x and y of every pixel's centre: two float32 (height, width)."""
        column = (np.arange(width, dtype=np.float32) + 0.5 - self.centre_x)[None, :] / self.scale
        row = (np.arange(height, dtype=np.float32) + 0.5 - self.centre_y)[:, None] / self.scale
        cosine, sine = np.float32(math.cos(self.radians)), np.float32(math.sin(self.radians))
        x, y = column * cosine + row * sine, row * cosine - column * sine
        x = -x if self.mirror else x
        if not self.limp:
            return x, y
        slip_x, slip_y = self._slip(x, y)  # first order, because the slip is small against its wavelength
        return x - slip_x, y - slip_y

    def _slip(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slip_x = np.sin(2.3 * y + self.phase) + 0.5 * np.sin(4.1 * x + 1.7 * self.phase)
        slip_y = np.sin(2.0 * x + 2.9 * self.phase) + 0.4 * np.sin(4.7 * x + 0.6 * self.phase)
        return slip_x * self.limp, slip_y * self.limp


def _both_sides(path: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points `reach` to the left and to the right of each point of `path` (N, 2), mitred at the bends."""
    steps = np.diff(path, axis=0)
    normals = np.stack([-steps[:, 1], steps[:, 0]], axis=1) / np.maximum(1e-9, np.hypot(*steps.T))[:, None]
    before, after = np.vstack([normals[:1], normals]), np.vstack([normals, normals[-1:]])
    mitre = before + after
    mitre /= np.maximum(0.7, 1.0 + (before * after).sum(axis=1))[:, None]  # sharp bends are blunted
    return path + reach * mitre, path - reach * mitre


@dataclass(frozen=True)
class Region:
    """The location of a part: a window of the picture, the part's coverage in it, and its product coordinates."""

    rows: slice
    columns: slice
    coverage: np.ndarray
    x: np.ndarray
    y: np.ndarray


class Canvas:
    """The picture of one product so far: premultiplied colour and coverage."""

    def __init__(self, height: int, width: int, placement: Placement) -> None:
        self.height, self.width, self.placement = height, width, placement
        self.x, self.y = placement.to_units(height, width)
        self.premultiplied = np.zeros((height, width, 3), dtype=np.float32)
        self.coverage = np.zeros((height, width), dtype=np.float32)

    def fill(self, points: Points) -> Region:
        """Return the inside of a closed outline given in product units."""
        pixels = self.placement.to_pixels(points)
        return self._rasterise(
            pixels, 0.0, lambda draw, corners: draw.polygon(corners.ravel().tolist(), fill=255)
        )

    def stroke(self, points: Points, width: float, round_ends: bool = True) -> Region:
        """Return a line of `width` product units along `points`."""
        pixels = self.placement.to_pixels(points)
        reach = max(0.25, width * self.placement.scale / 2)

        def line(draw: ImageDraw.ImageDraw, corners: np.ndarray) -> None:
            left, right = _both_sides(corners, reach * OVERSAMPLING - 0.3)  # polygons include their rim
            for quad in np.concatenate([left[:-1], left[1:], right[1:], right[:-1]], axis=1).tolist():
                draw.polygon(quad, fill=255)
            if round_ends:
                for x, y in corners[[0, -1]].tolist():
                    r = reach * OVERSAMPLING
                    draw.ellipse((x - r, y - r, x + r, y + r), fill=255)

        return self._rasterise(pixels, 1.5 * reach + 1, line)

    def within(self, part: Region, whole: Region) -> Region:
        """Return `part` cut to the coverage of `whole`."""
        cover = np.zeros((self.height, self.width), dtype=np.float32)
        cover[whole.rows, whole.columns] = whole.coverage
        coverage = part.coverage * cover[part.rows, part.columns]
        return Region(part.rows, part.columns, coverage, part.x, part.y)

    def paint(
        self, region: Region, colour: Colour, shade: np.ndarray | float = 1.0, opacity: float = 1.0
    ) -> None:
        """Paint `colour` (3,) or (h, w, 3) times `shade` over the picture so far."""
        alpha = (region.coverage * np.float32(opacity))[..., None]
        lit = np.asarray(colour, dtype=np.float32)
        lit = lit * (shade[..., None] if isinstance(shade, np.ndarray) else np.float32(shade))
        window = (region.rows, region.columns)
        self.premultiplied[window] += alpha * (lit - self.premultiplied[window])
        self.coverage[window] += alpha[..., 0] * (1.0 - self.coverage[window])

    def dye(
        self, region: Region, colour: Colour, shade: np.ndarray | float = 1.0, opacity: float = 1.0
    ) -> None:
        """Paint only where something is painted already: like `paint`, but adds no coverage."""
        window = (region.rows, region.columns)
        alpha = (region.coverage * np.float32(opacity))[..., None]
        lit = np.asarray(colour, dtype=np.float32)
        lit = lit * (shade[..., None] if isinstance(shade, np.ndarray) else np.float32(shade))
        self.premultiplied[window] += alpha * (
            lit * self.coverage[window][..., None] - self.premultiplied[window]
        )

    def darken(self, region: Region, amount: float) -> None:
        """Draw a seam or a shadow where something is painted already; adds no coverage."""
        window = (region.rows, region.columns)
        self.premultiplied[window] *= (1.0 - np.float32(amount) * region.coverage)[..., None]

    def lighten(self, region: Region, amount: float) -> None:
        """Draw a gloss where something is painted already; adds no coverage."""
        window = (region.rows, region.columns)
        gain = (np.float32(amount) * region.coverage)[..., None]
        self.premultiplied[window] += gain * (self.coverage[window][..., None] - self.premultiplied[window])

    def colour(self, window: tuple[slice, slice]) -> np.ndarray:
        """Return the product's own colour without background: float32 (h, w, 3), 0 where there is no product."""
        return self.premultiplied[window] / np.maximum(self.coverage[window], 1e-6)[..., None]

    def _rasterise(
        self, pixels: np.ndarray, margin: float, draw: Callable[[ImageDraw.ImageDraw, np.ndarray], None]
    ) -> Region:
        left, top = np.floor(pixels.min(axis=0) - margin - 1).astype(int)
        right, bottom = np.ceil(pixels.max(axis=0) + margin + 1).astype(int)
        left, right = (int(np.clip(side, 0, self.width)) for side in (left, right))
        top, bottom = (int(np.clip(side, 0, self.height)) for side in (top, bottom))
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        zoom = OVERSAMPLING
        large = Image.new("L", ((right - left) * zoom, (bottom - top) * zoom), 0)
        draw(ImageDraw.Draw(large), (pixels - (left, top)) * zoom - 0.5)
        coverage = np.asarray(large.reduce(zoom), dtype=np.float32) / np.float32(255.0)
        rows, columns = slice(top, bottom), slice(left, right)
        return Region(rows, columns, coverage, self.x[rows, columns], self.y[rows, columns])
