"""Take soft edges apart: x = a F + (1 - a) B, for an opacity a of the product, its colour F and the ground's B.

After Forte and Pitié (2021), "Approximate fast foreground colour estimation": averages of either side first, then what
they leave unexplained. All arrays are float32; colours are on any scale, shares are 0 to 1.
"""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

#: Weight of what is no part of a side, for where there is nothing else.
_LEAST = 1e-3

Colours = TypeVar("Colours", Tensor, NDArray[np.float32])


def average(colours: NDArray[np.float32], share: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Return the mean colour of one side about each pixel: (H, W, C).

    colours: (H, W, C). share: (H, W), how much of each pixel is of the side; what is all of it counts much more than
    what is half of it. reach: side of the window in pixels, odd.
    """
    weight = share * share
    weight = weight * weight + np.float32(_LEAST)
    total = cv2.boxFilter(weight, -1, (reach, reach))
    return cv2.boxFilter(colours * weight[..., None], -1, (reach, reach)) / total[..., None]


def unmixed(mixed: Colours, share: Colours, product: Colours, ground: Colours) -> Colours:
    """Return the product's own colour in `mixed`, which shows `share` of it: shapes that broadcast together.

    product, ground: what the two sides look like nearby (`average`). What they leave unexplained is added in the share
    of the product: the noise of `mixed` is never amplified.
    """
    return product + share * (mixed - share * product - (1 - share) * ground)
