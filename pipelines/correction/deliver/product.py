"""Finds the product in an upload, and measures how much a correction changed it."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from model.edits import warp
from pipelines.correction.deliver.white import WHITE, darkest_channel
from pipelines.images.colour import rgb_to_lab
from pipelines.images.pixels import to_tensor, to_uint8
from pipelines.images.resize import resize_bicubic, shrink_bicubic
from pipelines.inference.edits.codec import decode_edit
from pipelines.saliency.classical import ClassicalConfig, ClassicalSaliency

#: Longest side at which uploads and corrections are compared: smaller details do not matter here.
SIDE = 96
#: Smaller, with fewer rounds than for training data: it takes a quarter of the time, and loses one good mask in forty.
SALIENCY = ClassicalConfig(side=48, rounds=3)


class Product(NamedTuple):
    """mask: bool (h,w), the product's pixels in an upload shrunk to SIDE. core: the mask without its edge of one pixel,
    where colours mix.
    """

    mask: NDArray[np.bool_]
    core: NDArray[np.bool_]


def find_product(upload: NDArray[np.uint8]) -> Product:
    """Return the product in `upload` uint8 (H,W,3), found by classical saliency."""
    mask = ClassicalSaliency(SALIENCY)([shrink_bicubic(upload, SIDE, quickly=True)])[0] > 0.5
    return Product(mask, ndimage.binary_erosion(mask))


def compared(
    upload: NDArray[np.uint8], corrected: NDArray[np.uint8], edits: list[dict[str, bytes]]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return `upload` and `corrected`, uint8 (H,W,3) each, aligned and shrunk to one size (h,w,3) of at most SIDE.

    The edits' transforms are undone; pixels that they moved out of the picture are white.
    """
    before = shrink_bicubic(upload, SIDE, quickly=True)
    return before, _undone(resize_bicubic(corrected, before.shape[1], before.shape[0], quickly=True), edits)


def product_change(
    before: NDArray[np.uint8], after: NDArray[np.uint8], product: Product, only_kept: bool
) -> float:
    """Return the mean CIE76 difference (0 to about 100) of two `compared` images inside `product`, 0 if it is empty.

    only_kept: leave out what is white in `after`. Where a background became white, that is measured as lost, and
    saliency takes some shadows and floors for product.
    """
    inside = product.core & (darkest_channel(after) < WHITE) if only_kept else product.core
    if not inside.any():
        return 0.0
    difference = np.linalg.norm(rgb_to_lab(before) - rgb_to_lab(after), axis=2)
    return float(difference[inside].mean())


def _undone(image: NDArray[np.uint8], edits: list[dict[str, bytes]]) -> NDArray[np.uint8]:
    """Return `image` with the edits' transforms undone."""
    total = np.eye(3)
    for value in edits:  # an output pixel p shows the input at theta p
        total = total @ np.vstack([decode_edit(value).theta[0].numpy().astype(np.float64), [0, 0, 1]])
    if np.array_equal(total, np.eye(3)):
        return image
    if abs(np.linalg.det(total)) < 1e-6:  # the transform collapses everything to a line or point
        return np.full_like(image, 255)
    back = torch.from_numpy(np.linalg.inv(total)[:2].astype(np.float32))[None]
    return to_uint8(warp(to_tensor(image[None]), back, outside=1.0))[0]
