"""Products and grounds put together and taken apart: x = a F + (1 - a) B, for an opacity a of the product.

In a soft edge a photo shows a mixture of the product's colour F and the ground's B. Laid elsewhere as it is, it brings
a rim of its old ground with it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

#: Reach of the averages from which colours in soft edges are estimated, as a share of the longer side.
REACH = 0.02
_LEAST = 1e-3


def foreground(
    image: NDArray[np.uint8], alpha: NDArray[np.uint8], ground: int | None = None
) -> NDArray[np.uint8]:
    """The product's own colour in its soft edges: uint8 (H, W, 3), equal to the image where alpha is 0 or 255.

    image: uint8 (H, W, 3). alpha: uint8 (H, W), 255 is product. ground: grey level of a ground that is the same
    everywhere; None is a ground of any look. After Forte (2021), "Approximate fast foreground colour estimation":
    averages of either side, then what they leave unexplained is added in the share a.
    """
    band = np.flatnonzero((alpha > 0) & (alpha < 255))
    if band.size == 0:
        return image
    # Averages are taken over a smaller copy: they are smooth, and it costs a quarter.
    height, width = alpha.shape
    small = max(1, width // 2), max(1, height // 2)
    pixels = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    reach = 2 * max(1, round(REACH * max(small))) + 1
    product = _spread(_average(pixels, share**4, reach), band, width, height)
    a = (alpha.ravel()[band].astype(np.float32) / np.float32(255))[:, None]
    if ground is None:
        behind = _spread(_average(pixels, (1 - share) ** 4, reach), band, width, height)
    else:
        behind = np.full_like(product, ground)
    mixed = image.reshape(-1, 3)[band].astype(np.float32)
    own = product + a * (mixed - a * product - (1 - a) * behind)
    result = image.copy()
    result.reshape(-1, 3)[band] = np.clip(np.rint(own), 0, 255).astype(np.uint8)
    return result


def over(
    product: NDArray[np.uint8], alpha: NDArray[np.uint8], ground: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """a F + (1 - a) B, rounded: the product exactly where alpha is 255, the ground where it is 0.

    product, ground: uint8 (H, W, 3). alpha: uint8 (H, W).
    """
    share = alpha.astype(np.float32) * np.float32(1 / 255)
    return cv2.blendLinear(product, ground, share, np.float32(1) - share)


def on_white(product: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`over` a white ground."""
    return over(product, alpha, np.full_like(product, 255))


def _average(pixels: NDArray[np.float32], weight: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Mean colour about each pixel, weighted; from farther away where there is no weight near."""
    weight = weight + np.float32(_LEAST)
    # The wider average counts little, and where the narrow one has nothing to go by.
    colours = cv2.boxFilter(pixels * weight[..., None], -1, (reach, reach))
    weights = cv2.boxFilter(weight, -1, (reach, reach))
    return colours / weights[..., None]


def _spread(
    field: NDArray[np.float32], band: NDArray[np.intp], width: int, height: int
) -> NDArray[np.float32]:
    """Values (N, 3) of a smaller field at the pixels `band` of a picture of width by height."""
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR).reshape(-1, 3)[band]
