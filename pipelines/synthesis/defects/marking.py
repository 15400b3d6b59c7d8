"""Watermarks for training, many and fast: drawn once as layers of coverage, then warped, placed and inked.

`watermark.add_watermark` draws one mark as a seller would put it on a picture. Training needs hundreds a second, in any
size and colour. Most are on the product, where they are hardest, because a network must guess the colours beneath.
"""

import colorsys
import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from pipelines.contracts.hashing import hash_number
from pipelines.synthesis.defects.foreground import most_apart
from pipelines.synthesis.defects.marks import lettering_mark, logo_mark, logo_with_name
from pipelines.synthesis.defects.views import Affine, about, moved, seen
from pipelines.synthesis.defects.watermark import mark_coverage

#: Number of layers per process, and their side in pixels: 256 kB each at most, drawn when first used. They are larger
#: than pictures in training, because sellers mark photos at full size: shrinking makes thin strokes faint and soft.
LAYERS, SIDE = 500, 512
#: Share of layers that are endless patterns.
TILED = 0.4
#: Smallest and largest scale of single marks and of patterns; 1 is as drawn.
SCALES, TILE_SCALES = (0.5, 1.7), (0.6, 1.5)
#: Opacity of the marks: fainter ones are overlooked, more opaque ones leave nothing to restore.
MIN_OPACITY, MAX_OPACITY = 0.12, 0.6
#: Share of the marks that are put on the product.
ON_GOODS = 0.85
#: Levels of 255 from which a change counts in full.
SEEN_LEVELS = 6.0
#: Contrast, in levels of brightness, below which another ink is tried.
FAINT = 60.0
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Image = NDArray[np.uint8]
Plane = NDArray[np.uint8]


class Marked(NamedTuple):
    """A picture with a mark. image: uint8 (H, W, 3).

    changed: uint8 (H, W), the mark's coverage where it is visible, 0 where it changed nothing.
    """

    image: Image
    changed: Plane


class Layer(NamedTuple):
    """A mark alone, drawn for a picture of SIDE pixels.

    coverage: uint8 (h, w), read-only. middle: x, y of the centre of what it covers. tiled: one cell of an endless
    pattern.
    """

    coverage: Plane
    middle: tuple[float, float]
    tiled: bool


@lru_cache(maxsize=LAYERS)
def layer(number: int) -> Layer:
    """Return layer `number` of LAYERS, which depends on the number only."""
    rng = np.random.default_rng(hash_number("mark layer", number))
    tiled = bool(rng.random() < TILED)
    coverage = _cell(rng) if tiled else np.array(mark_coverage(SIDE, SIDE, rng, tiled=False))
    coverage.flags.writeable = False
    moments = cv2.moments(coverage)
    return Layer(
        coverage, (moments["m10"] / moments["m00"] + 0.5, moments["m01"] / moments["m00"] + 0.5), tiled
    )


def _cell(rng: np.random.Generator) -> Plane:
    """Return two rows of a small mark, the second shifted by half a step, so that cells join on all sides."""
    kind, side = float(rng.random()), float(SIDE)
    if kind < 0.65:
        stamp = lettering_mark(side * rng.uniform(0.2, 0.45), rng)
    elif kind < 0.85:
        stamp = logo_mark(side * rng.uniform(0.12, 0.24), rng)
    else:
        stamp = logo_with_name(side * rng.uniform(0.2, 0.35), rng)
    lean = 0.0 if rng.random() < 0.35 else float(rng.uniform(-45, 45))
    mark = np.array(stamp.rotate(lean, PillowImage.Resampling.BICUBIC, expand=True))
    step_x = max(8, int(mark.shape[1] * rng.uniform(1.05, 1.6)))
    step_y = max(8, int(mark.shape[0] * rng.uniform(1.1, 2.2)))
    cell = np.zeros((2 * step_y, step_x), np.uint8)
    for down, right in ((0, 0), (step_y, step_x // 2)):
        rows, columns = (
            (down + np.arange(mark.shape[0])) % (2 * step_y),
            (right + np.arange(mark.shape[1])) % step_x,
        )
        where = np.ix_(rows, columns)
        cell[where] = np.maximum(cell[where], mark)
    if rng.random() < 0.15:  # thin crossing lines, as in stock photos
        for start, end in (((0, 0), (step_x, 2 * step_y)), ((0, 2 * step_y), (step_x, 0))):
            cv2.line(cell, start, end, 255, SIDE // 256, cv2.LINE_AA)
    return cv2.convertScaleAbs(cell, alpha=255 / max(1, int(cell.max())))


def add_mark(image: Image, goods: Plane, unit: tuple[float, float], rng: np.random.Generator) -> Marked:
    """Put a mark over a picture, uint8 (H, W, 3), most often on its product, uint8 (H, W), 255 is product.

    unit: width and height at which a pixel is shown, (1, 1) if pixels are square: letters on a squeezed picture are
    squeezed with it.
    """
    coverage = placed(image.shape[1], image.shape[0], goods, unit, rng)
    opacity = float(rng.uniform(MIN_OPACITY, MAX_OPACITY))
    style = float(rng.random())
    if style < 0.14:
        marked, coverage = _embossed(image, coverage, opacity, rng)
    else:
        ink, coverage = _inked(image, coverage, style, rng)
        share = coverage.astype(np.float32) * np.float32(opacity / 255)
        marked = cv2.blendLinear(ink, image, share, np.float32(1) - share)
    difference = most_apart(marked, image)
    visible = cv2.min(coverage, cv2.convertScaleAbs(difference, alpha=255 / SEEN_LEVELS))
    return Marked(marked, cv2.max(visible, cv2.min(difference, 1)))


def placed(
    width: int, height: int, goods: Plane, unit: tuple[float, float], rng: np.random.Generator
) -> Plane:
    """Return the coverage uint8 (height, width) of one of the layers, warped and placed; see `add_mark`."""
    drawn = layer(int(rng.integers(LAYERS)))
    size = math.sqrt(width * unit[0] * height * unit[1]) / SIDE
    scale = size * math.exp(float(rng.uniform(*(np.log(TILE_SCALES if drawn.tiled else SCALES)))))
    degrees = 0.0 if rng.random() < 0.5 else float(rng.uniform(-30, 30))
    x, y = _target_point(goods, rng)
    matrix = moved(drawn.middle, (x * unit[0], y * unit[1]), degrees, scale)
    matrix = np.diag([1 / unit[0], 1 / unit[1], 1.0]) @ matrix @ about(drawn.middle, _bend(rng))
    border = cv2.BORDER_WRAP if drawn.tiled else cv2.BORDER_CONSTANT
    coverage = seen(drawn.coverage, matrix, (width, height), border, interpolation=cv2.INTER_LINEAR)
    if scale > 1.15:  # enlarging makes edges soft, but marks are sharp
        coverage = cv2.LUT(coverage, _steeper(scale))
    return coverage


def _bend(rng: np.random.Generator) -> Affine:
    """Return a map (3, 3) about a mark's middle that narrows or shears some marks."""
    if rng.random() < 0.7:
        return np.eye(3)
    narrowed, sheared = float(rng.uniform(0.75, 1.3)), float(rng.uniform(-0.25, 0.25))
    return np.array([[narrowed, sheared, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def _target_point(goods: Plane, rng: np.random.Generator) -> tuple[float, float]:
    """Return a point of the product, nearer its middle than its rim; for some marks, or without product, any point."""
    height, width = goods.shape
    if rng.random() < ON_GOODS:
        positions = np.flatnonzero(goods[::2, ::2] > 127)
        if positions.size:
            chosen = positions[rng.integers(0, positions.size, 2)]
            rows, columns = np.divmod(chosen, (width + 1) // 2)
            share = float(rng.random()) / 2
            y, x = rows[0] + share * (rows[1] - rows[0]), columns[0] + share * (columns[1] - columns[0])
            return 2 * float(x) + 1, 2 * float(y) + 1
    return width * float(rng.uniform(0.05, 0.95)), height * float(rng.uniform(0.05, 0.95))


def _steeper(gain: float) -> Plane:
    levels = np.arange(256, dtype=np.float64)
    return np.clip(np.rint((levels - 127.5) * gain + 127.5), 0, 255).astype(np.uint8)


def any_tone(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return white, black or grey in half of the cases, else any colour: float32 (3,) in 0..255."""
    kind = float(rng.random())
    if kind < 0.24:
        return np.full(3, float(rng.uniform(225, 255)), np.float32)
    if kind < 0.36:
        return np.full(3, float(rng.uniform(0, 30)), np.float32)
    if kind < 0.48:
        return np.full(3, float(rng.uniform(60, 200)), np.float32)
    colour = colorsys.hsv_to_rgb(
        float(rng.random()), float(rng.uniform(0.45, 1.0)), float(rng.uniform(0.3, 1.0))
    )
    return np.array(colour, np.float32) * 255


def _visible_tone(image: Image, coverage: Plane, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a tone; if it hardly shows on most of what it covers, usually another one."""
    tone = any_tone(rng)
    under = image[::2, ::2][coverage[::2, ::2] > 100]
    if under.size == 0 or rng.random() < 0.12:
        return tone
    levels = under.astype(np.float32)
    for _ in range(3):
        difference = np.abs(levels - tone)
        if np.median(np.maximum(difference.max(axis=-1) / 2, np.abs((levels - tone) @ _LUMA))) >= FAINT:
            break
        tone = any_tone(rng)
    return tone


def _inked(image: Image, coverage: Plane, style: float, rng: np.random.Generator) -> tuple[Image, Plane]:
    """Return ink (H, W, 3) and its coverage: plain, with a rim or shadow of the opposite tone, or in two colours."""
    tone = _visible_tone(image, coverage, rng)
    ink = np.empty_like(image)
    ink[:] = np.rint(tone).astype(np.uint8)
    if style < 0.34:
        other = np.empty_like(image)
        other[:] = 12 if float(tone @ _LUMA) > 110 else 245
        wide = _rim(coverage, rng)
        core = coverage.astype(np.float32) * np.float32(1 / 255)
        return cv2.blendLinear(ink, other, core, np.float32(1) - core), wide
    if style < 0.44:
        second = any_tone(rng)
        share = np.linspace(0, 1, image.shape[1], dtype=np.float32)[None, :, None]
        ink[:] = np.rint(tone + share * (second - tone)).astype(np.uint8)
    return ink, coverage


def _rim(coverage: Plane, rng: np.random.Generator) -> Plane:
    """Return coverage made wider by a pixel or two, all round or, as a shadow, to the lower right."""
    reach = 1 + int(rng.integers(2))
    if rng.random() < 0.5:
        return cv2.dilate(coverage, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    return np.maximum(coverage, _shifted(coverage, reach))


def _shifted(plane: Plane, by: int) -> Plane:
    """Return the plane moved down and right by `by` pixels (up and left if negative), filled with zeros."""
    matrix = np.array([[1.0, 0.0, by], [0.0, 1.0, by]])
    return cv2.warpAffine(plane, matrix, plane.shape[::-1], flags=cv2.INTER_NEAREST)


def _embossed(image: Image, coverage: Plane, opacity: float, rng: np.random.Generator) -> tuple[Image, Plane]:
    """Return a mark as if pressed into glass: lighter on one flank of its strokes, darker on the other, and tinted."""
    by = 1 + int(rng.integers(2))
    flank = _shifted(coverage, by).astype(np.float32) - _shifted(coverage, -by).astype(np.float32)
    flank = cv2.GaussianBlur(flank, (0, 0), 0.7) * np.float32(1 / 255)
    if rng.random() < 0.5:
        flank = -flank
    fill = coverage.astype(np.float32) * np.float32(opacity * float(rng.uniform(0.0, 0.5)) / 255)
    level = np.float32(255 if rng.random() < 0.7 else 0)
    relief = flank * np.float32(opacity * 190)
    levels = image.astype(np.float32)
    levels += (fill * level + relief)[..., None] - fill[..., None] * levels
    covered = np.maximum(np.abs(flank) * 255, coverage)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8), np.minimum(covered, 255).astype(np.uint8)
