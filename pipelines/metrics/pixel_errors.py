"""Pixel errors between two images."""

import numpy as np
from numpy.typing import NDArray


def l1(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the mean absolute difference of two uint8 images of one shape, on the model's scale of -1 to 1."""
    return float(np.abs(a.astype(np.float64) - b).mean()) / 127.5


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB of two uint8 images of one shape; 99 if they are equal."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))
