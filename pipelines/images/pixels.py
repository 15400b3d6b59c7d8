"""Converts between uint8 images and tensors on the model's scale."""

import numpy as np
import torch
from torch import Tensor


def to_tensor(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Convert uint8 (B,H,W,3), 0..255, to float32 (B,3,H,W), -1..1, channels last in memory."""
    pixels = torch.from_numpy(images).to(device, non_blocking=True).permute(0, 3, 1, 2)
    return pixels.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> np.ndarray:
    """Convert float (B,C,H,W), clipped to -1..1, to uint8 (B,H,W,C), 0..255.

    The exact inverse of `to_tensor` on its results.
    """
    levels = images.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
