"""Apply edits to uploads at full size, tile by tile, so that memory is bounded by the upload's bytes.

In float32 a 50-megapixel photo takes 600 MB, and an edit several times that, in each of the tasks that commit.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.edits import Edit, identity_theta
from pipelines.images.pixels import to_tensor, to_uint8
from pipelines.images.resize import resize_bicubic
from pipelines.inference.edits.codec import decode_edit
from pipelines.inference.edits.edges import SoftEdges
from pipelines.inference.edits.guided import Guided, Places

#: Defects whose correction makes the background white.
BACKGROUNDS = ("non_white_background",)

#: Side of a tile in pixels. Its tensors fit into a core's cache, so tiles are as fast as whole images although each
#: computes its pixels' positions itself.
TILE = 256
#: The guide of a moved upload is moved at this multiple of the generator's size and then shrunk: interpolation at the
#: generator's size would add a blur that the generator did not see.
_OVERSAMPLING = 2


class Edited(NamedTuple):
    """An edited image and its matte, aligned with it.

    image: uint8 (H,W,3). matte: uint8 (H,W), how much of each pixel the last edit painted: at 0 the pixel is as it was
    (or as it was moved), at 255 it is the edit's content.
    """

    image: np.ndarray
    matte: np.ndarray


def apply_edits(
    image: np.ndarray, edits: Sequence[Mapping[str, Any]], grounds: Sequence[bool] | None = None
) -> Edited:
    """Return `image` uint8 (H,W,3) of any size after `edits` (values of `rows.EDITS`) in their order.

    grounds: for each edit, whether its matte is the background behind the product; the old background's colour is then
    removed from soft edges (see `edges`). None: for no edit.

    Each edit is applied to the 8-bit result of the edit before it, as in the generator. The image is moved once,
    bicubically, with white from outside; content and matte then follow its edges (see `guided`). Pixels that an edit
    neither paints nor moves keep their bytes. Without edits the matte is 0. The result does not depend on TILE.
    """
    edited = Edited(image, np.zeros(image.shape[:2], np.uint8))
    for value, is_ground in zip(edits, grounds or [False] * len(edits), strict=True):
        edited = apply_edit(edited.image, decode_edit(value), is_ground)
    return edited


@torch.inference_mode()
def apply_edit(image: np.ndarray, edit: Edit, is_ground: bool = False) -> Edited:
    """Apply one edit of one image (B is 1), as `apply_edits` does."""
    moves = not torch.equal(edit.theta, identity_theta(1))
    size = image.shape[0], image.shape[1]
    guided, edges = None, None
    if edit.matte.any():
        parts = _guide(image, edit)[0], edit.content[0], edit.matte[0], size
        guided, edges = Guided(*parts), SoftEdges(*parts) if is_ground else None
    result, painted = np.empty_like(image), np.zeros(size, np.uint8)
    for window in _windows(*size):
        places = Places(size, edit.matte.shape[2:], window)
        paints = guided is not None and guided.paints(places)
        if not (moves or paints):
            result[window] = image[window]
            continue
        pixels = _moved(image, edit.theta, window) if moves else to_tensor(image[window][None])
        if guided is not None and paints:
            own = pixels[0]
            content, matte = guided.at(places, own.clamp(-1, 1))
            matte = (matte * 255).round_()
            painted[window] = matte[0].numpy()
            matte /= 255
            if edges is not None:
                own, content = edges.unmix(window, own, content, matte)
            pixels = (own + (content - own) * matte)[None]
        result[window] = to_uint8(pixels)[0]
    return Edited(result, painted)


def _guide(image: np.ndarray, edit: Edit) -> Tensor:
    """Return the image that the generator saw, moved as the edit moves it: (1, 3, h, w)."""
    height, width = edit.matte.shape[2:]
    if torch.equal(edit.theta, identity_theta(1)):
        return to_tensor(resize_bicubic(image, width, height)[None])
    larger = resize_bicubic(image, _OVERSAMPLING * width, _OVERSAMPLING * height)
    whole = slice(0, larger.shape[0]), slice(0, larger.shape[1])
    return F.avg_pool2d(_moved(larger, edit.theta, whole), _OVERSAMPLING)


def _windows(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles of an image."""
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))


def _moved(image: np.ndarray, theta: Tensor, window: tuple[slice, slice]) -> Tensor:
    """Return the window's pixels of `affine_grid(theta)` over the image: (1, 3, h, w), about -1..1, white outside."""
    height, width = image.shape[:2]
    pixels = _sources(theta, image.shape, window)
    source = tuple(
        slice(max(0, int(along.min().floor()) - 1), min(size, int(along.max().floor()) + 3))
        for along, size in ((pixels[..., 1], height), (pixels[..., 0], width))
    )
    if any(part.start >= part.stop for part in source):
        return torch.ones(1, 3, *pixels.shape[1:3])
    part = to_tensor(image[source][None])
    start = torch.tensor([source[1].start, source[0].start])
    size = torch.tensor([part.shape[3], part.shape[2]])
    within = (((pixels - start) * 2 + 1) / size - 1).float()
    moved = F.grid_sample(part - 1.0, within, mode="bicubic", padding_mode="zeros", align_corners=False)
    return moved + 1.0


def _sources(theta: Tensor, shape: tuple[int, ...], window: tuple[slice, slice]) -> Tensor:
    """Return where the window's pixels come from: float64 (1, h, w, 2), x and y in pixels, 0 the first one's centre."""
    axes = [
        (torch.arange(part.start, part.stop, dtype=torch.float64) * 2 + 1) / size - 1
        for part, size in zip(window, shape[:2], strict=True)
    ]
    y, x = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([x, y, torch.ones_like(x)], dim=-1)[None] @ theta[0].double().T
    return (grid + 1) * torch.tensor([shape[1], shape[0]]) / 2 - 0.5
