"""Changes of a picture's light: curves and colour casts, the same for both sides of a pair.

White stays white under `Tint`, so a product on white stays on white.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_GREY = np.array([0.299, 0.587, 0.114])


class Tint(NamedTuple):
    """A change of colours. curves: uint8 (1, 256, 3). matrix: float32 (3, 3) with rows that add up to 1, or None."""

    curves: NDArray[np.uint8]
    matrix: NDArray[np.float32] | None

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float = 1.0) -> "Tint":
        """Draw a change: brightness, contrast, white balance by a tenth, saturation by a quarter, sometimes the hue."""
        gamma = np.exp(strength * (rng.normal(0.0, 0.16) + rng.normal(0.0, 0.035, 3)))
        bend = strength * float(rng.uniform(-0.12, 0.12))
        x = np.linspace(0.0, 1.0, 256)[:, None]
        curve = x**gamma
        curve = curve + bend * np.sin(2 * np.pi * curve) / 2
        curves = np.clip(np.rint(255 * curve), 0, 255).astype(np.uint8)[None]
        matrix = None
        if rng.random() < 0.5:
            turned = float(rng.uniform(-np.pi, np.pi)) if rng.random() < 0.3 else float(rng.normal(0.0, 0.06))
            matrix = _hue(turned, 1.0 + strength * float(rng.uniform(-0.35, 0.25)))
        return cls(curves, matrix)

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return uint8 (H, W, 3) with changed colours, as a new array."""
        changed = cv2.LUT(picture, self.curves)
        return changed if self.matrix is None else cv2.transform(changed, self.matrix)


def _hue(radians: float, saturation: float) -> NDArray[np.float32]:
    """Return (3, 3) that turns colours about the grey axis and scales their distance from it; greys stay."""
    axis = np.full((3, 3), 1 / 3)
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / np.sqrt(3)
    turn = axis + np.cos(radians) * (np.eye(3) - axis) + np.sin(radians) * cross
    grey = np.ones((3, 1)) * _GREY
    return (grey + saturation * (turn - grey @ turn)).astype(np.float32)
