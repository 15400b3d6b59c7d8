"""Measures of published pictures."""

import math
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.images.resize import shrink_bicubic
from pipelines.metrics.pixel_errors import psnr
from tests.benchmarks.saliency_quality import overlap

#: Distance to white (Euclidean, of 441) below which a photo's pixel counts as white.
NEARLY_WHITE = 20.0
#: Levels of 255 from which a channel's change is visible.
TOUCHED_LEVELS = 8
#: Side and radius (root mean square) at which two pictures are registered, pixels.
REGISTERED_SIDE, RADIUS = 128, 30.0
#: A pixel with a channel below this is not background.
INK = 244
#: Range of turns that are tried, in degrees to either side, and the steps, from coarse to fine.
FARTHEST, STEPS = 48.0, (4.0, 1.0, 0.25)
#: Number of results of the coarse search from which the finer ones start.
STARTS = 3


def kept_region(
    photo: NDArray[np.uint8], published: NDArray[np.uint8], product: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return what a correction of the background has kept, bool (H,W), at the published size.

    photo, published: uint8 (H,W,3). A pixel is gone if it went more than half of its way to white; in a blend of the
    photo and white, that is where the matte is above a half. Where the photo itself is white this cannot be decided.
    There `product`, bool (H,W), is used, so that these pixels count neither for nor against.
    """
    distance, remaining = (np.linalg.norm(255.0 - image, axis=2) for image in (photo, published))
    kept = remaining > distance / 2
    return np.where(distance < NEARLY_WHITE, product, kept)


def kept_iou(photo: NDArray[np.uint8], published: NDArray[np.uint8], product: NDArray[np.bool_]) -> float:
    """Return the intersection over union, 0 to 1, of `kept_region` and the product."""
    return overlap(kept_region(photo, published, product), product)


def psnr_inside(one: NDArray[np.uint8], other: NDArray[np.uint8], region: NDArray[np.bool_]) -> float:
    """Return the PSNR in dB of two pictures uint8 (H,W,3) inside `region`, bool (H,W); 99 if they are equal there."""
    return psnr(one[region], other[region]) if region.any() else 99.0


def touched(before: NDArray[np.uint8], after: NDArray[np.uint8], region: NDArray[np.bool_]) -> float:
    """Return the share of `region`'s pixels, 0 to 1, with a channel that changed by more than TOUCHED_LEVELS."""
    change = cv2.absdiff(before, after).max(axis=2)
    return float((change[region] > TOUCHED_LEVELS).mean()) if region.any() else 0.0


def mean_change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Return the mean absolute difference, levels of 255."""
    return float(cv2.absdiff(before, after).mean())


def degrees_between(picture: NDArray[np.uint8], upright: NDArray[np.uint8]) -> float:
    """Return the degrees, counter-clockwise, by which the product of `picture` is turned relative to `upright`'s.

    Both are uint8 (H,W,3) on white, of any size. They are brought to the same middle and size. The result is the turn
    within FARTHEST at which they differ least (mean absolute difference), searched from coarse to fine; 0 for an empty
    picture.
    """
    one, other = _centred(picture), _centred(upright)
    if one is None or other is None:
        return 0.0
    fixed = _laid(other, 0.0)
    costs: dict[float, float] = {}

    def cost(degrees: float) -> float:
        if degrees not in costs:
            costs[degrees] = float(np.abs(_laid(one, -degrees) - fixed).mean())
        return costs[degrees]

    coarse = np.arange(-FARTHEST, FARTHEST + 1, STEPS[0])
    best = sorted((float(degrees) for degrees in coarse), key=cost)[:STARTS]
    for before, step in pairwise(STEPS):
        near = {start + offset for start in best for offset in np.arange(-before, before + step, step)}
        best = sorted(near, key=cost)[:STARTS]
    return best[0]


def _centred(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], tuple[float, float], float] | None:
    """Return the picture with white at 0, small; the middle of the product, x and y; and the scale to RADIUS."""
    small = shrink_bicubic(image, 2 * REGISTERED_SIDE)
    y, x = np.nonzero(small.min(axis=2) < INK)
    if x.size < 16:
        return None
    middle = float(x.mean()), float(y.mean())
    radius = math.sqrt(float(((x - middle[0]) ** 2 + (y - middle[1]) ** 2).mean()))
    return 255 - small.astype(np.float32), middle, RADIUS / max(radius, 1.0)


def _laid(
    centred: tuple[NDArray[np.float32], tuple[float, float], float], degrees: float
) -> NDArray[np.float32]:
    """Return the picture turned counter-clockwise about its middle, which is centred in a square: float32 (S,S,3)."""
    image, middle, scale = centred
    matrix = cv2.getRotationMatrix2D(middle, degrees, scale)
    matrix[:, 2] += REGISTERED_SIDE / 2 - np.array(middle)
    return cv2.warpAffine(image, matrix, (REGISTERED_SIDE, REGISTERED_SIDE))
