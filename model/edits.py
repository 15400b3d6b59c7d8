"""Edits: the generator's answer in a form that applies at any resolution.

The generator sees a small square image. Its answer (where to move pixels, what to paint, where to paint it) is applied
to the upload itself, so that pixels outside the matte keep the upload's detail.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Edit(NamedTuple):
    """theta (B, 2, 3) float32: affine map from output to input coordinates (torch's `affine_grid` convention).

    content (B, 3, S, S) in [-1, 1]: colours to paint. matte (B, 1, S, S) in [0, 1]: their share; 1 replaces the pixel.
    """

    theta: Tensor
    content: Tensor
    matte: Tensor


def identity_theta(batch: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the affine map (batch, 2, 3) float32 that moves nothing."""
    return torch.eye(2, 3, device=device).expand(batch, 2, 3)


def warp(image: Tensor, theta: Tensor, outside: float) -> Tensor:
    """Resample image (B, C, H, W) by theta (B, 2, 3), bilinearly; pixels from outside the image become `outside`.

    Source: spatial transformer networks (Jaderberg et al., 2015).
    """
    # Under autocast the grid would be bfloat16, whose 8 bits misplace pixels by half a pixel at 256. Use float32.
    with torch.autocast(image.device.type, enabled=False):
        wide = image if image.dtype == torch.float64 else image.float()
        grid = F.affine_grid(theta.to(wide.dtype), list(image.shape), align_corners=False)
        moved = F.grid_sample(
            wide - outside, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        return (moved + outside).to(image.dtype)


def blend(image: Tensor, content: Tensor, matte: Tensor) -> Tensor:
    """Return matte * content + (1 - matte) * image; exactly `image` where the matte is 0."""
    return torch.lerp(image, content, matte.expand_as(image))


def apply_edit(image: Tensor, edit: Edit) -> Tensor:
    """Apply `edit` to image (B, 3, H, W) float32 RGB in [-1, 1], of any size; same shape.

    For training; uploads at full size are painted by `pipelines.inference.edits.apply`.

    Moves the image first (outside is white), then paints. Rows with the identity transform are not resampled, so their
    untouched pixels stay exact.
    """
    moved = (edit.theta != identity_theta(len(edit.theta), edit.theta.device)).flatten(1).any(dim=1)
    if bool(moved.any()):
        image = torch.where(moved[:, None, None, None], warp(image, edit.theta, outside=1.0), image)
    size = image.shape[-2:]
    content, matte = edit.content.to(image.dtype), edit.matte.to(image.dtype)
    if content.shape[-2:] != size:
        content = F.interpolate(content, size=size, mode="bilinear", align_corners=False)
        matte = F.interpolate(matte, size=size, mode="bilinear", align_corners=False)
    return blend(image, content, matte)
