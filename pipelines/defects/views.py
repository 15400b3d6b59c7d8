"""Where a training sample looks at a picture: affine maps from its pixels into a frame of another size and place.

Coordinates are continuous, x before y: a picture of W by H pixels goes from (0, 0) to (W, H), and the middle of its
first pixel is (.5, .5). Arrays are resampled by OpenCV, whose vector code takes a tenth of Pillow's time.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.fit import fitted_size

#: A picture that becomes smaller than this share of itself is averaged down first: interpolation alone would alias.
REDUCED = 0.8

Affine = NDArray[np.float64]


class Frame(NamedTuple):
    """A picture's own shape, width by height in any unit, and the pixels that it has on the generator's input."""

    width: float
    height: float
    pixels: tuple[int, int]  # (width, height)

    @classmethod
    def of(cls, width: float, height: float, side: int, fit: str) -> "Frame":
        """The frame of a picture of that size within a square of `side` pixels; fit: as in `pipelines.fit`."""
        # fitted_size rounds whole pixels; the unit is free, so that a large one loses nothing.
        return cls(width, height, fitted_size(max(1, round(width)), max(1, round(height)), side, fit))

    def to_pixels(self) -> Affine:
        """(3, 3), from the frame's own unit to its pixels."""
        return np.diag([self.pixels[0] / self.width, self.pixels[1] / self.height, 1.0])


def moved(
    about: tuple[float, float],
    to: tuple[float, float],
    degrees: float = 0.0,
    scale: float = 1.0,
    mirror: bool = False,
) -> Affine:
    """(3, 3): turn counter-clockwise and enlarge about the point `about`, mirrored left to right or not, and bring that
    point to `to`."""
    cosine, sine = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    sign = -1.0 if mirror else 1.0
    matrix = np.array([[sign * cosine, sine, 0.0], [-sign * sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    matrix[:2, 2] = np.asarray(to) - matrix[:2, :2] @ np.asarray(about)
    return matrix


def seen(
    picture: NDArray[np.uint8],
    matrix: Affine,
    pixels: tuple[int, int],
    border: int = cv2.BORDER_REFLECT_101,
    fill: int = 0,
    interpolation: int = cv2.INTER_CUBIC,
) -> NDArray[np.uint8]:
    """uint8 (H, W) or (H, W, 3) under a map (3, 3): uint8 of `pixels` (width, height), antialiased.

    border: OpenCV's name for what lies outside; with BORDER_CONSTANT it is `fill`. A map with a last row other than
    (0, 0, 1) is a homography.
    """
    height, width = picture.shape[:2]
    is_affine = matrix[2, 0] == 0 and matrix[2, 1] == 0
    shares = np.hypot(matrix[0, :2], matrix[1, :2]) if is_affine else np.ones(2)
    if shares.min() < REDUCED:
        reduced = (
            min(width, max(1, round(width * float(shares[0])))),
            min(height, max(1, round(height * float(shares[1])))),
        )
        picture = cv2.resize(picture, reduced, interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.diag([width / reduced[0], height / reduced[1], 1.0])
    half = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    centred = np.linalg.inv(half) @ matrix @ half  # OpenCV counts from the middle of the first pixel
    filled = (fill, fill, fill)
    if is_affine:
        return cv2.warpAffine(
            picture, centred[:2], pixels, flags=interpolation, borderMode=border, borderValue=filled
        )
    return cv2.warpPerspective(
        picture, centred, pixels, flags=interpolation, borderMode=border, borderValue=filled
    )


def sampling_theta(target_to_source: Affine, side: int) -> NDArray[np.float32]:
    """float32 (2, 3) for torch's affine_grid (align_corners=False), of a map (3, 3) between squares of `side` pixels.

    `grid_sample(source, affine_grid(theta, ...), align_corners=False)` is then the target.
    """
    to_unit = np.array([[2.0 / side, 0.0, -1.0], [0.0, 2.0 / side, -1.0], [0.0, 0.0, 1.0]])
    return (to_unit @ target_to_source @ np.linalg.inv(to_unit))[:2].astype(np.float32)
