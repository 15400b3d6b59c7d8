"""Apply edits to uploads at full size. Only the upload, a moved copy, the result and its matte are in memory."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from model.edits import Edit
from pipelines.images.resize import resize_bicubic
from pipelines.inference.edits.codec import decode_edit
from pipelines.inference.edits.edges import soft_edges
from pipelines.inference.edits.guided import fitted
from pipelines.inference.edits.islands import without_islands

#: Defects whose correction makes the background white.
BACKGROUNDS = ("non_white_background",)

#: The guide of a moved upload is moved at this multiple of the generator's size and then shrunk: interpolation at the
#: generator's size would add a blur that the generator did not see.
_OVERSAMPLING = 2
_IDENTITY = np.eye(2, 3)


class EditedImage(NamedTuple):
    """An edited image and its matte, aligned with it.

    image: uint8 (H,W,3). matte: uint8 (H,W), how much of each pixel the last edit painted: at 0 the pixel is as it was
    (or as it was moved), at 255 it is the edit's content.
    """

    image: np.ndarray
    matte: np.ndarray


def apply_edits(
    image: np.ndarray, edits: Sequence[Mapping[str, Any]], backgrounds: Sequence[bool] | None = None
) -> EditedImage:
    """Return `image` uint8 (H,W,3) of any size after `edits` (values of `rows.EDITS`) in their order.

    backgrounds: for each edit, whether its matte is the background behind the product; if so, scraps of the background
    are removed (see `islands`), and its colour from soft edges (see `edges`). None: for no edit.

    Each edit is applied to the 8-bit result of the edit before it, as in the generator. An edit that turns moves
    the image, bicubically, with white from outside; content and matte then follow its edges (see `guided`). Pixels that
    an edit neither paints nor moves keep their bytes. Without edits the matte is 0.
    """
    edited = EditedImage(image, np.zeros(image.shape[:2], np.uint8))
    for value, is_background in zip(edits, backgrounds or [False] * len(edits), strict=True):
        edited = apply_edit(edited.image, decode_edit(value), is_background)
    return edited


def apply_edit(image: np.ndarray, edit: Edit, is_background: bool = False) -> EditedImage:
    """Apply one edit of one image (B is 1), as `apply_edits` does."""
    # Numba takes a third of a second to import, and not every process that imports this module paints.
    from pipelines.inference.edits.paint import paint

    size = image.shape[0], image.shape[1]
    theta = edit.theta[0].double().numpy()
    matte, content = edit.matte[0, 0].numpy(), edit.content[0].permute(1, 2, 0).contiguous().numpy()
    if is_background:
        content, matte = without_islands(content, matte)
    if not matte.any():
        return EditedImage(moved(image, theta), np.zeros(size, np.uint8))
    guide = _guide(image, theta, matte.shape)
    models = fitted(guide, content, matte, size)
    edges = soft_edges(guide, content, matte) if is_background else None
    return EditedImage(*paint(moved(image, theta), models, edges))


def _scaled(image: np.ndarray) -> np.ndarray:
    """Return levels 0..255 as float32 -1..1, of the same shape."""
    scaled = image.astype(np.float32)
    scaled /= np.float32(127.5)
    scaled -= 1
    return scaled


def _guide(image: np.ndarray, theta: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the image that the generator saw, to about two levels, of `size` (h, w), moved as the edit moves it.

    float32 (h,w,3), -1..1.
    """
    height, width = size
    if np.array_equal(theta, _IDENTITY):
        return _scaled(resize_bicubic(image, width, height, quickly=True))
    larger = resize_bicubic(image, _OVERSAMPLING * width, _OVERSAMPLING * height, quickly=True)
    return _scaled(cv2.resize(moved(larger, theta), (width, height), interpolation=cv2.INTER_AREA))


def moved(image: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return `image` uint8 (H,W,3) resampled bicubically by theta (2,3), white from outside; itself if nothing moves.

    theta: from positions in the result to positions in `image`, both from -1 to 1 between the borders
    (`torch.nn.functional.affine_grid`).
    """
    if np.array_equal(theta, _IDENTITY):
        return image
    sides = np.array([image.shape[1], image.shape[0]], np.float64)
    matrix = np.empty((2, 3))  # the same in pixels; 0 is the centre of the first
    matrix[:, :2] = theta[:, :2] * (sides[:, None] / sides)
    matrix[:, 2] = (theta[:, :2] @ (1 / sides - 1) + theta[:, 2] + 1) * sides / 2 - 0.5
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        image,
        matrix,
        image.shape[1::-1],
        flags=flags,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(255, 255, 255),
    )
