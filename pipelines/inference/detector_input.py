"""Images onto the detector's square input, whole and undistorted: a tilt or a border is a defect. Imports no torch."""

import numpy as np
from numpy.typing import NDArray

from pipelines.images.decode import decode_image
from pipelines.images.fit import fit_inside, squared
from pipelines.images.resize import resize_bicubic

#: Grey beside an image that is not square: neither a product picture's white nor a photo's own colours.
PAD = 128
#: Images are laid out this much larger than the network sees them: defects are drawn there, and shrink like any other
#: part of an upload.
OVERSAMPLING = 2


def letterbox(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """uint8 (H,W,3) at its aspect ratio in the middle of a PAD-grey uint8 (side,side,3)."""
    height, width = image.shape[:2]
    return squared(fit_inside(image, (width, height), side, "letterbox"), side, PAD)


def content(canvas: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Where the image lies in what `letterbox` made: all but the border's lines of nothing but PAD."""
    used = (canvas != PAD).any(axis=2)
    found = []
    for axis in (1, 0):
        lines = np.flatnonzero(used.any(axis=axis))
        found.append(slice(int(lines[0]), int(lines[-1]) + 1) if len(lines) else slice(0, len(canvas)))
    return found[0], found[1]


def shrink(canvas: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A canvas to the network's uint8 (size,size,3)."""
    return resize_bicubic(canvas, size, size)


def canvas_of(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 (H,W,3) as a canvas for inputs of `size` pixels."""
    return letterbox(image, OVERSAMPLING * size)


def read_canvas(data: bytes, size: int) -> NDArray[np.uint8]:
    """An encoded image as a canvas for inputs of `size` pixels. Raises ImageError."""
    return canvas_of(decode_image(data, max_side=OVERSAMPLING * size), size)
