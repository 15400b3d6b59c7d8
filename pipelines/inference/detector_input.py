"""Fits images into the detector's square input, whole and undistorted. Does not import torch.

Cropping or stretching would hide defects such as a border or a tilt.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.images.decode import decode_image
from pipelines.images.fit import fit_inside, squared
from pipelines.images.resize import resize_bicubic

#: Grey beside an image that is not square: unlike the white of a product picture, or the colours of a photo.
PAD = 128
#: A canvas is this many times larger than the network's input. Defects are drawn on it, so that they shrink like any
#: other part of an upload.
OVERSAMPLING = 2


def letterbox(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Put uint8 (H,W,3), with its aspect ratio kept, in the middle of a PAD-grey uint8 (side,side,3)."""
    height, width = image.shape[:2]
    return squared(fit_inside(image, (width, height), side, "letterbox"), side, PAD)


def content(canvas: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Return the rows and columns of the image in a canvas of `letterbox`: all but the outer lines of pure PAD."""
    used = (canvas != PAD).any(axis=2)
    spans = []
    for axis in (1, 0):
        lines = np.flatnonzero(used.any(axis=axis))
        spans.append(slice(int(lines[0]), int(lines[-1]) + 1) if len(lines) else slice(0, len(canvas)))
    return spans[0], spans[1]


def shrink(canvas: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Shrink a canvas to the network's input, uint8 (size,size,3)."""
    return resize_bicubic(canvas, size, size)


def canvas_of(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Make a canvas, for inputs of `size` pixels, from uint8 (H,W,3)."""
    return letterbox(image, OVERSAMPLING * size)


def read_canvas(data: bytes, size: int) -> NDArray[np.uint8]:
    """Make a canvas, for inputs of `size` pixels, from an encoded image. Raises ImageError."""
    return canvas_of(decode_image(data, max_side=OVERSAMPLING * size), size)
