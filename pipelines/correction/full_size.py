"""Edits onto uploads at their own size, tile by tile, so that memory is bounded by the upload's bytes.

In float32 a 50-megapixel photo takes 600 MB, and an edit several times that, in every committing task at once.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.edits import Edit, blend, identity_theta
from pipelines.correction.edit_codec import decode_edit
from pipelines.pixels import to_tensor, to_uint8

#: Side of a tile in pixels. Its tensors fit into a core's cache: as fast as whole images, although it computes each
#: pixel's place itself.
TILE = 256


@torch.inference_mode()
def apply_edits(image: np.ndarray, edits: Sequence[Mapping[str, bytes]]) -> np.ndarray:
    """`image` uint8 (H,W,3) of any size after `edits` (values of `rows.EDITS`) in their order: uint8 (H,W,3).

    Each edit sees what the generator saw: the image as the edit before it left it, in 8 bits. The result is that of
    `model.edits.apply_edit`.
    """
    for value in edits:
        image = _apply(image, decode_edit(value))
    return image


def _apply(image: np.ndarray, edit: Edit) -> np.ndarray:
    moves = not torch.equal(edit.theta, identity_theta(1))
    paint = torch.cat([edit.content, edit.matte], dim=1)
    result = np.empty_like(image)
    for window in _windows(*image.shape[:2]):
        painted = _sample(paint, _grid(identity_theta(1), image.shape, window), "border")
        content, matte = painted[:, :3], painted[:, 3:]
        if moves:
            result[window] = to_uint8(blend(_moved(image, edit.theta, window), content, matte))[0]
        elif matte.any():
            result[window] = to_uint8(blend(to_tensor(image[window][None]), content, matte))[0]
        else:
            result[window] = image[window]
    return result


def _windows(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Tiles that cover an image."""
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))


def _grid(theta: Tensor, shape: tuple[int, ...], window: tuple[slice, slice]) -> Tensor:
    """The window's part of `affine_grid(theta, (1, C, H, W))`: (1, h, w, 2), coordinates (x, y) in the source."""
    axes = [
        (torch.arange(part.start, part.stop, dtype=torch.float32) * 2 + 1) / size - 1
        for part, size in zip(window, shape[:2], strict=True)
    ]
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)[None] @ theta[0].T


def _moved(image: np.ndarray, theta: Tensor, window: tuple[slice, slice]) -> Tensor:
    """The window's pixels after the move, (1, 3, h, w) in -1..1; white from outside the image."""
    grid = _grid(theta, image.shape, window)
    height, width = image.shape[:2]
    pixels = (grid + 1) * torch.tensor([width, height]) / 2 - 0.5  # in the image's pixels
    source = tuple(
        slice(max(0, int(along.min().floor())), min(size, int(along.max().floor()) + 2))
        for along, size in ((pixels[..., 1], height), (pixels[..., 0], width))
    )
    if any(part.start >= part.stop for part in source):
        return torch.ones(1, 3, *grid.shape[1:3])
    part = to_tensor(image[source][None])
    start = torch.tensor([source[1].start, source[0].start])
    size = torch.tensor([part.shape[3], part.shape[2]])
    within = ((pixels - start) * 2 + 1) / size - 1
    return _sample(part - 1.0, within, "zeros") + 1.0


def _sample(values: Tensor, grid: Tensor, outside: str) -> Tensor:
    return F.grid_sample(values, grid, mode="bilinear", padding_mode=outside, align_corners=False)
