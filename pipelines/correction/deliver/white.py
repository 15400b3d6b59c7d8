"""Makes near-white backgrounds white, and measures how white the background of a file is.

Marketplaces ask for pure white. A generator paints 250 where its target has 255, and JPEG adds ripples: invisible in a
viewer, but a seam on a white page.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

#: A pixel is near-white, and may become white, if all its channels reach NEAR_WHITE. It must be connected to the
#: photo's border through such pixels, so that highlights and prints inside the product stay.
NEAR_WHITE = 240
#: Pixels that the generator painted (a matte of one half or more) are background, and may be greyer.
NEAR_WHITE_PAINTED = 235
#: A matte below a tenth keeps the upload's pixels. They may be a white product, unless they reach the border with no
#: painted pixels in between.
TOUCHED = 26
#: A pixel of a file is white if all channels reach this. The eye cannot distinguish 250 from 255.
WHITE = 250
#: Width of the measured border and side of the corners, as shares of the image's shorter side.
BORDER, CORNER = 0.02, 0.06


@dataclass(frozen=True)
class NotWhite:
    """Shares of pixels below WHITE in some channel, in [0, 1]: in the worst of the four corners, and in the border."""

    corners: float
    border: float

    @property
    def worst(self) -> float:
        """The larger of the two."""
        return max(self.corners, self.border)


def snap_white(
    image: NDArray[np.uint8], painted: NDArray[np.uint8] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return `image` uint8 (H,W,3) with the near-white pixels of its background at exactly 255, and their mask (H,W).

    painted: the matte (H,W) uint8, 0..255, of a generator that paints the background, or None. Pixels that it left
    alone must then be connected to the border through such pixels only: background that was white already is, but a
    white product amid painted background is not. Pixels outside the mask do not change.
    """
    darkest = darkest_channel(image)
    near = darkest >= NEAR_WHITE
    if painted is not None:
        touched = painted >= TOUCHED
        left_alone = reached_from_border(near & ~touched)
        near = left_alone | (near & touched) | ((painted >= 128) & (darkest >= NEAR_WHITE_PAINTED))
    background = reached_from_border(near)
    levels = background.view(np.uint8) * np.uint8(255)
    return cv2.bitwise_or(image, cv2.merge([levels, levels, levels])), background


def darkest_channel(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the smallest of the three values of each pixel, (H,W,3) to (H,W); far faster than `min(axis=2)`."""
    return np.minimum(np.minimum(image[..., 0], image[..., 1]), image[..., 2])


def reached_from_border(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the parts of `region` (H,W) that are connected to the border by shared sides of pixels."""
    # A frame around the region joins everything that touches the border to one piece, which is filled from its corner.
    framed = np.pad(np.ascontiguousarray(region).view(np.uint8), 1, constant_values=1)
    cv2.floodFill(framed, None, (0, 0), 2)
    return framed[1:-1, 1:-1] == 2


def measure_white(image: NDArray[np.uint8], product: NDArray[np.bool_] | None = None) -> NotWhite:
    """Measure how much of the corners and the border of `image` uint8 (H,W,3) is not white.

    product: mask (H,W) of pixels that are not background even at the border, such as a product that the photo cuts off.
    A corner or border that is all product counts as white.
    """
    height, width = image.shape[:2]
    thick, corner = (max(1, round(share * min(height, width))) for share in (BORDER, CORNER))
    top, bottom, left, right = (
        np.s_[:thick, :],
        np.s_[max(thick, height - thick) :, :],
        np.s_[thick : height - thick, :thick],
        np.s_[thick : height - thick, max(thick, width - thick) :],
    )
    corners = [
        _share(*_counted(image, product, (rows, columns)))
        for rows in (slice(0, corner), slice(height - corner, height))
        for columns in (slice(0, corner), slice(width - corner, width))
    ]
    border = np.sum([_counted(image, product, side) for side in (top, bottom, left, right)], axis=0)
    return NotWhite(max(corners), _share(*border))


def _counted(
    image: NDArray[np.uint8], product: NDArray[np.bool_] | None, area: tuple[slice, slice]
) -> tuple[int, int]:
    """Return the number of dark background pixels in an area, and of all its background pixels."""
    dark = darkest_channel(image[area]) < WHITE
    if product is None:
        return int(dark.sum()), dark.size
    counts = ~product[area]
    return int((dark & counts).sum()), int(counts.sum())


def _share(part: int, total: int) -> float:
    return float(part / total) if total else 0.0
