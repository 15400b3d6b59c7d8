"""Where the product is in an upload, and how much a correction has changed it."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from model.edits import warp
from pipelines.correction.edit_codec import decode_edit
from pipelines.dataset.mask_quality import rgb_to_lab
from pipelines.pixels import to_tensor, to_uint8
from pipelines.resize import resize_bicubic, shrink_bicubic
from pipelines.saliency.classical import ClassicalConfig, ClassicalSaliency

#: Longest side at which uploads and corrections are compared: details below are not what this is about.
SIDE = 96
#: Smaller and fewer turns than for training data: a quarter of the time, and of the good masks one in forty is lost.
SALIENCY = ClassicalConfig(side=48, rounds=3)


def find_product(upload: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The product's pixels in `upload` uint8 (H,W,3) shrunk to SIDE, bool (h,w): classical saliency, one pixel in from
    its edge, where colours mix.
    """
    mask = ClassicalSaliency(SALIENCY)([shrink_bicubic(upload, SIDE)])[0] > 0.5
    return ndimage.binary_erosion(mask)


def product_change(
    upload: NDArray[np.uint8],
    corrected: NDArray[np.uint8],
    edits: list[dict[str, bytes]],
    product: NDArray[np.bool_],
) -> float:
    """Mean CIE76 colour difference (0 to about 100) inside `product` between the upload and the correction, uint8
    (H,W,3) of one size, after the edits' moves are undone; 0 where there is no product.

    What a move has pushed out of the picture counts as white.
    """
    if not product.any():
        return 0.0
    before = shrink_bicubic(upload, SIDE)
    after = _undone(resize_bicubic(corrected, before.shape[1], before.shape[0]), edits)
    difference = np.linalg.norm(rgb_to_lab(before) - rgb_to_lab(after), axis=2)
    return float(difference[product].mean())


def _undone(image: NDArray[np.uint8], edits: list[dict[str, bytes]]) -> NDArray[np.uint8]:
    """`image` moved back to where the upload's pixels were."""
    total = np.eye(3)
    for value in edits:  # an output pixel p shows the input at theta p
        total = total @ np.vstack([decode_edit(value).theta[0].numpy().astype(np.float64), [0, 0, 1]])
    if np.array_equal(total, np.eye(3)):
        return image
    if abs(np.linalg.det(total)) < 1e-6:  # everything in one line or point
        return np.full_like(image, 255)
    back = torch.from_numpy(np.linalg.inv(total)[:2].astype(np.float32))[None]
    return to_uint8(warp(to_tensor(image[None]), back, outside=1.0))[0]
