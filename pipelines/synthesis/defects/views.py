"""Views of training samples: affine maps from a picture's pixels into a frame of another size and position.

Coordinates are continuous, x before y: a picture of W by H pixels goes from (0, 0) to (W, H), and the middle of its
first pixel is (.5, .5). Arrays are resampled by OpenCV, whose vector code takes a tenth of Pillow's time.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.images.fit import fitted_size

#: A picture that becomes smaller than this share of itself is averaged down first, because interpolation would alias.
REDUCED = 0.8

Affine = NDArray[np.float64]


class Frame(NamedTuple):
    """A picture's own shape, width by height in any unit, and its size in pixels on the generator's input."""

    width: float
    height: float
    pixels: tuple[int, int]  # (width, height)

    @classmethod
    def of(cls, width: float, height: float, side: int, fit: str) -> "Frame":
        """Return the frame of a picture of that size in a square of `side` pixels; fit: see `pipelines.images.fit`."""
        # fitted_size rounds to whole pixels; the unit is free, so large numbers lose nothing.
        return cls(width, height, fitted_size(max(1, round(width)), max(1, round(height)), side, fit))

    def unit(self) -> tuple[float, float]:
        """Return the width and height at which a pixel is shown, 1 on (geometric) average."""
        ratio = math.sqrt(self.width / self.height * self.pixels[1] / self.pixels[0])
        return ratio, 1 / ratio

    def to_pixels(self) -> Affine:
        """Return the map (3, 3) from the frame's own unit to its pixels."""
        return np.diag([self.pixels[0] / self.width, self.pixels[1] / self.height, 1.0])


def moved(
    about: tuple[float, float],
    to: tuple[float, float],
    degrees: float = 0.0,
    scale: float = 1.0,
    mirror: bool = False,
) -> Affine:
    """Return a map (3, 3) that turns counter-clockwise and enlarges about the point `about`, and moves it to `to`.

    mirror: mirror left to right first.
    """
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
    """Return the picture, uint8 (H, W) or (H, W, 3), under a map (3, 3): uint8 of `pixels` (width, height),
    antialiased.

    border: OpenCV's name for the values outside; BORDER_CONSTANT gives `fill`. A map with a last row other than (0, 0,
    1) is a homography.
    """
    is_affine = matrix[2, 0] == 0 and matrix[2, 1] == 0
    if is_affine:
        picture, matrix = reduced(picture, matrix)
    filled = (fill, fill, fill)
    if is_affine:
        # OpenCV's coordinates start in the middle of the first pixel.
        centred = matrix[:2].copy()
        centred[:, 2] += centred[:, :2].sum(axis=1) / 2 - 0.5
        return cv2.warpAffine(
            picture, centred, pixels, flags=interpolation, borderMode=border, borderValue=filled
        )
    half = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    back = np.array([[1.0, 0.0, -0.5], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]])
    return cv2.warpPerspective(
        picture, back @ matrix @ half, pixels, flags=interpolation, borderMode=border, borderValue=filled
    )


def reduced(picture: NDArray[np.uint8], matrix: Affine) -> tuple[NDArray[np.uint8], Affine]:
    """Return a picture averaged down to about its size under the affine map (3, 3), and the map from there."""
    height, width = picture.shape[:2]
    across, down = np.hypot(matrix[0, :2], matrix[1, :2])
    if min(across, down) >= REDUCED:
        return picture, matrix
    size = min(width, max(1, round(width * float(across)))), min(height, max(1, round(height * float(down))))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return picture, matrix @ np.diag([width / size[0], height / size[1], 1.0])


def brought_to(middle: tuple[float, float]) -> Affine:
    """Return the map (3, 3) that moves the origin to `middle`."""
    return np.array([[1.0, 0.0, middle[0]], [0.0, 1.0, middle[1]], [0.0, 0.0, 1.0]])


def about(middle: tuple[float, float], matrix: Affine) -> Affine:
    """Return the map (3, 3) that does about `middle` what `matrix` does about the origin."""
    return brought_to(middle) @ matrix @ brought_to((-middle[0], -middle[1]))


def sampling_theta(target_to_source: Affine, side: int) -> NDArray[np.float32]:
    """Return float32 (2, 3) for torch's affine_grid (align_corners=False), of a map (3, 3) between squares of `side`
    pixels.

    `grid_sample(source, affine_grid(theta, ...), align_corners=False)` is then the target.
    """
    to_unit = np.array([[2.0 / side, 0.0, -1.0], [0.0, 2.0 / side, -1.0], [0.0, 0.0, 1.0]])
    return (to_unit @ target_to_source @ np.linalg.inv(to_unit))[:2].astype(np.float32)
