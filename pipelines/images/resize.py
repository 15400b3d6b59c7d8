"""Resizes images as the method does: antialiased bicubic, directly to the requested size."""

import numpy as np
from PIL import Image


def resize_bicubic(image: np.ndarray, width: int, height: int, quickly: bool = False) -> np.ndarray:
    """Resize `image` uint8 (H,W,3) to uint8 (height,width,3); the caller decides about the aspect ratio.

    Pillow's bicubic filter (a = -0.5) widens with the reduction, so that shrinking does not alias: the FID
    literature calls this a clean resize (Parmar et al., 2022). The inputs of both the model and the FID network come
    from here. If the size is already right, the result is `image` itself.

    quickly: for looking at a picture. Large ones are averaged down by a whole number first: three megapixels take a
    third of the time, and the result differs by about two levels.

    Raises ValueError for another dtype or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"resize_bicubic takes uint8 (H,W,3), not {image.dtype} {image.shape}")
    if image.shape[:2] == (height, width):
        return image
    gap = 2.0 if quickly else None
    return np.array(
        Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=gap)
    )


def scaled_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Return (width, height) at the same aspect ratio with the longer one at `side`; both are at least 1."""
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink_bicubic(image: np.ndarray, max_side: int, quickly: bool = False) -> np.ndarray:
    """Shrink `image` uint8 (H,W,3) until its longer side has `max_side` pixels, aspect kept; never enlarge.

    quickly: as in `resize_bicubic`.
    """
    height, width = image.shape[:2]
    if max(height, width) <= max_side:
        return image
    return resize_bicubic(image, *scaled_size(width, height, max_side), quickly)
