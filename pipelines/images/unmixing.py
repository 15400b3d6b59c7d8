"""Unmixes soft edges: x = a F + (1 - a) B, for an opacity a of the product, its colour F and the background's colour B.

After Forte and Pitié (2021), "Approximate fast foreground colour estimation": first averages of both sides, then a
correction by the residual. All arrays are float32; colours are on any scale, shares are 0 to 1.
"""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

#: Weight of pixels that are no part of a side, for windows that have no others.
_LEAST = 1e-3

Colours = TypeVar("Colours", Tensor, NDArray[np.float32])


def average(colours: NDArray[np.float32], share: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Return the mean colour of one side around each pixel: (H, W, C).

    colours: (H, W, C). share: (H, W), how much of each pixel belongs to the side; a pixel that belongs to it fully
    counts much more than one that does by half. reach: side of the window in pixels, odd.
    """
    weight = share * share
    weight = weight * weight + np.float32(_LEAST)
    total = cv2.boxFilter(weight, -1, (reach, reach))
    return cv2.boxFilter(colours * weight[..., None], -1, (reach, reach)) / total[..., None]


def unmixed(mixed: Colours, share: Colours, product: Colours, background: Colours) -> Colours:
    """Return the product's own colour in `mixed`, which shows `share` of it; the shapes must broadcast together.

    product, background: average colours of the two sides nearby (`average`). The residual is added in proportion to
    `share`, so the noise of `mixed` is never amplified.
    """
    return product + share * (mixed - share * product - (1 - share) * background)
