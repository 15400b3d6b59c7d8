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


def shrink_quickly(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """`resize_bicubic` for looking at a picture: large ones are averaged down by a whole number first.

    A photo of three megapixels takes a third of the time, and differs by two levels at most.
    """
    if image.shape[:2] == (height, width):
        return image
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.array(small)


def shrink_bicubic(image: np.ndarray, max_side: int) -> np.ndarray:
    """`image` uint8 (H,W,3) with its longer side at `max_side` pixels, aspect kept; smaller ones stay as they are."""
    return resize_bicubic(image, *_shrunk(image, max_side))


def look_at(image: np.ndarray, max_side: int) -> np.ndarray:
    """`shrink_bicubic` by `shrink_quickly`."""
    return shrink_quickly(image, *_shrunk(image, max_side))


def _shrunk(image: np.ndarray, max_side: int) -> tuple[int, int]:
    """(width, height) of `image` with its longer side at most `max_side`."""
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))
