"""Remove what an edit has kept of the old background, apart from the product.

Generators keep scraps of a busy background: a seam of the floor, a corner of the wall. Where a scrap lies apart from
the product, its size and position show what it is.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

#: A pixel belongs to an island if more than this share of it is kept.
KEPT = 0.25
#: Islands below this share of the largest one are scraps if less than that share of their pixels is kept: the generator
#: was in doubt. On 350 held-back photos this and the next rule take 288 of 295 scraps, and 26 of 46 true parts, most of
#: them of a few pixels.
SCRAP, DOUBTFUL = 0.05, 0.7
#: Doubtful islands at the border are scraps up to this share, and the others up to the second one: products are in the
#: middle, and the second shoe of a pair is as large as the first. The gate for lost products does not notice a tenth.
SCRAP_AT_BORDER, CERTAIN_AT_BORDER = 0.3, 0.1
#: Pixels around a scrap that go with it, since its edge is soft.
MARGIN = 2


def without_islands(content: Array, matte: Array) -> tuple[Array, Array]:
    """Return an edit's content float32 (h,w,3) on -1..1 and matte float32 (h,w) on 0..1, painted white over scraps.

    The largest island is the product. If there is no other, the arguments are returned as they are.
    """
    kept = 1 - matte
    count, islands, boxes, _ = cv2.connectedComponentsWithStats((kept > KEPT).astype(np.uint8))
    if count < 3:  # the background counts, too
        return content, matte
    mass = np.bincount(islands.ravel(), kept.ravel(), count)
    mass[0] = 0
    share = mass / mass.max()
    is_doubtful = mass < DOUBTFUL * boxes[:, cv2.CC_STAT_AREA]
    at_border = np.where(is_doubtful, SCRAP_AT_BORDER, CERTAIN_AT_BORDER)
    is_scrap = ((share < SCRAP) & is_doubtful) | ((share < at_border) & _at_border(boxes, matte.shape))
    is_scrap[0] = False
    around = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)
    scraps = cv2.dilate(is_scrap[islands].view(np.uint8), around).astype(bool)
    scraps &= is_scrap[islands] | (islands == 0)  # the product keeps its edge
    return np.where(scraps[..., None], np.float32(1), content), np.where(scraps, np.float32(1), matte)


def _at_border(boxes: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which boxes (N, left, top, width, height, ...) touch a side of a picture of that shape (h, w)."""
    left, top, width, height = boxes[:, :4].T
    return (left == 0) | (top == 0) | (left + width == shape[1]) | (top + height == shape[0])
