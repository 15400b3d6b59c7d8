"""Drawn toy photos for the benchmarks of methods: a disc on a smooth coloured background, made from a seed."""

import torch
import torch.nn.functional as F
from torch import Tensor


def scenes(
    count: int, side: int, generator: torch.Generator, brightness: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return photos (count, 3, side, side) in [-1, 1] and the discs' masks (count, 1, side, side), 0 or 1.

    brightness: added to a background of -0.9 to 0.5, (count, 1, 1, 1) or one number.
    """
    coarse = torch.rand(count, 3, 3, 3, generator=generator) * 1.4 - 0.9
    background = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=True)
    background = (background + brightness).clamp(-1, 0.9)
    colour = torch.rand(count, 3, 1, 1, generator=generator) * 1.6 - 1
    centre = (torch.rand(count, 2, 1, 1, generator=generator) * 0.375 + 0.3125) * side
    radius = (torch.rand(count, 1, 1, generator=generator) * 0.1 + 0.155) * side
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = (row - centre[:, 0]) ** 2 + (column - centre[:, 1]) ** 2 < radius**2
    mask = inside[:, None].float()
    return mask * colour + (1 - mask) * background, mask


def on_white(photo: Tensor, mask: Tensor) -> Tensor:
    """Return the disc on white, the target of a background correction."""
    return mask * photo + (1 - mask)


def in_grey(photo: Tensor) -> Tensor:
    """Return the photo in grey, another correction of the same inputs."""
    return photo.mean(dim=1, keepdim=True).expand_as(photo)


def mean_l1(a: Tensor, b: Tensor) -> float:
    """Return the mean absolute difference of images in [-1, 1]."""
    return (a - b).abs().mean().item()
