"""Resizing as the method does it: antialiased bicubic, straight to the asked size."""

import numpy as np
from PIL import Image


def resize_bicubic(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """`image` uint8 (H,W,3) as uint8 (height,width,3); the aspect ratio is the caller's business.

    Pillow's bicubic filter (a = -0.5) widens with the reduction, so that shrinking does not alias: the FID
    literature calls this a clean resize (Parmar et al., 2022). The model's input and the FID network's input
    both come through here. The result may share memory with `image` where the size is already right.

    Raises ValueError for another dtype or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"resize_bicubic takes uint8 (H,W,3), not {image.dtype} {image.shape}")
    if image.shape[:2] == (height, width):
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def scaled_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Return (width, height) at the same aspect ratio with the longer one at `side`; both are at least 1."""
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink_bicubic(image: np.ndarray, max_side: int) -> np.ndarray:
    """`image` uint8 (H,W,3) with its longer side at `max_side` pixels, aspect kept; smaller ones stay as they are."""
    height, width = image.shape[:2]
    if max(height, width) <= max_side:
        return image
    return resize_bicubic(image, *scaled_size(width, height, max_side))
