"""Smooth random fields for fabric, wood, carpets and light."""

import numpy as np
from PIL import Image


def resized(
    field: np.ndarray, height: int, width: int, method: Image.Resampling = Image.Resampling.BICUBIC
) -> np.ndarray:
    """Resize float32 (h, w) to float32 (height, width)."""
    return np.asarray(Image.fromarray(field.astype(np.float32)).resize((width, height), method))


def softened(field: np.ndarray, radius: float) -> np.ndarray:
    """Blur float32 (H, W) by about `radius` pixels, through a smaller copy, so that a large radius costs no more."""
    height, width = field.shape
    small = resized(
        field, max(2, round(height / radius)), max(2, round(width / radius)), Image.Resampling.BILINEAR
    )
    return resized(small, height, width)


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cell_y: float, cell_x: float
) -> np.ndarray:
    """Return normal noise with features of cell_y by cell_x pixels: float32 (height, width), mean 0, sd below 1."""
    rows, columns = int(height / cell_y) + 3, int(width / cell_x) + 3
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    box = (0.5, 0.5, 0.5 + width / cell_x, 0.5 + height / cell_y)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC, box=box))


def cloudy(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 3) -> np.ndarray:
    """Return fractal noise: each octave has half the size and half the height of the one before."""
    field = smooth_noise(rng, height, width, cell, cell)
    for octave in range(1, octaves):
        size = max(1.5, cell / 2**octave)
        field = field + smooth_noise(rng, height, width, size, size) * np.float32(0.5**octave)
    return field


def slope_light(field: np.ndarray, light: tuple[float, float]) -> np.ndarray:
    """Return how much a surface of height `field` (H, W) leans towards a light at (x, y): float32 (H, W)."""
    along_y, along_x = np.gradient(field)
    return np.asarray(-(along_x * np.float32(light[0]) + along_y * np.float32(light[1])), dtype=np.float32)
