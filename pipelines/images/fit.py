"""Fits images into a generator's square input. Training, evaluation and correction share this. Does not import torch.

`stretch` changes the aspect ratio (the paper's plain resize). `letterbox` keeps it: the image is in the middle of a
white square, because corrected pictures have white around the product.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.images.resize import resize_bicubic, scaled_size

#: Grey level beside a letterboxed image.
PAD = 255


def fitted_size(width: int, height: int, side: int, fit: str) -> tuple[int, int]:
    """Return the (width, height) of such an image within a square of `side` pixels; one of them is `side`."""
    return (side, side) if fit == "stretch" else scaled_size(width, height, side)


def fit_inside(image: NDArray[np.uint8], size: tuple[int, int], side: int, fit: str) -> NDArray[np.uint8]:
    """Resize uint8 (H,W,3) to its `fitted_size`, without the square around it.

    size: (width, height) of the upload. `image` may be a smaller copy, whose own size could be off by a pixel because
    it is rounded twice.
    """
    return resize_bicubic(image, *fitted_size(*size, side, fit))


def inner_slices(height: int, width: int, side: int) -> tuple[slice, slice]:
    """Return the rows and columns of a (side, side) square that an image of (height, width), no larger, takes."""
    top, left = (side - height) // 2, (side - width) // 2
    return slice(top, top + height), slice(left, left + width)


def squared(image: NDArray[np.uint8], side: int, pad: int = PAD) -> NDArray[np.uint8]:
    """Return what `fit_inside` made as uint8 (side,side,3), the grey level `pad` beside it."""
    if image.shape[:2] == (side, side):
        return image
    square = np.full((side, side, 3), pad, np.uint8)
    square[inner_slices(image.shape[0], image.shape[1], side)] = image
    return square


def fit_square(image: NDArray[np.uint8], size: tuple[int, int], side: int, fit: str) -> NDArray[np.uint8]:
    """Fit uint8 (H,W,3) into the generator's input, uint8 (side,side,3). size: as in `fit_inside`."""
    return squared(fit_inside(image, size, side, fit), side)
