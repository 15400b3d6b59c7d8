"""Images onto a generator's square input, and its answers back: one place, because training, evaluation and correction
must agree. Imports no torch.

`stretch` gives the aspect ratio up (the paper's literal resize). `letterbox` keeps it: the image lies in the middle of
a white square, white because that is what corrected pictures have around the product.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.images.resize import resize_bicubic, scaled_size

#: Grey level beside a letterboxed image.
PAD = 255


def fitted_size(width: int, height: int, side: int, fit: str) -> tuple[int, int]:
    """(width, height) that an image of that size has within a square of `side` pixels; one of them is `side`."""
    return (side, side) if fit == "stretch" else scaled_size(width, height, side)


def fit_inside(image: NDArray[np.uint8], size: tuple[int, int], side: int, fit: str) -> NDArray[np.uint8]:
    """uint8 (H,W,3) resized to its `fitted_size`, without the square around it.

    size: (width, height) of the upload, of which `image` may be a smaller copy: rounding twice could differ by a pixel.
    """
    return resize_bicubic(image, *fitted_size(*size, side, fit))


def place(height: int, width: int, side: int) -> tuple[slice, slice]:
    """Rows and columns of a (side, side) square where an image of (height, width), no larger, lies."""
    top, left = (side - height) // 2, (side - width) // 2
    return slice(top, top + height), slice(left, left + width)


def squared(image: NDArray[np.uint8], side: int, pad: int = PAD) -> NDArray[np.uint8]:
    """Return what `fit_inside` made as uint8 (side,side,3), the grey level `pad` beside it."""
    if image.shape[:2] == (side, side):
        return image
    square = np.full((side, side, 3), pad, np.uint8)
    square[place(image.shape[0], image.shape[1], side)] = image
    return square


def fit_square(image: NDArray[np.uint8], size: tuple[int, int], side: int, fit: str) -> NDArray[np.uint8]:
    """uint8 (H,W,3) as the generator sees it, uint8 (side,side,3); size: as in `fit_inside`."""
    return squared(fit_inside(image, size, side, fit), side)
