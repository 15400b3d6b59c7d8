"""Lettering, logos and stripes that belong to the product: they look like marks and must stay.

They are put on both sides of a pair, so that a generator learns to leave them and a detector not to report them. They
differ from marks as printed ink does: nearly opaque, inside the product, and under the product's light.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.synthesis.defects.marking import any_tone, placed

#: Opacity of the ink.
MIN_OPACITY, MAX_OPACITY = 0.8, 1.0
#: Share of the prints that are stripes, and their period as a share of the picture's shorter side.
STRIPED, PERIODS = 0.3, (0.03, 0.2)
#: Smallest and largest brightness of printed ink, relative to the product's median.
SHADES = (0.4, 1.5)


def add_print(
    picture: NDArray[np.uint8],
    goods: NDArray[np.uint8],
    unit: tuple[float, float],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Print onto the product of a picture, uint8 (H, W, 3); return a new one.

    goods: uint8 (H, W), 255 is product. unit: as in `marking.add_mark`.
    """
    height, width = goods.shape
    striped = rng.random() < STRIPED
    coverage = _stripes(width, height, rng) if striped else placed(width, height, goods, unit, rng)
    share = cv2.multiply(coverage, goods, scale=1 / 255).astype(np.float32)
    share *= np.float32(rng.uniform(MIN_OPACITY, MAX_OPACITY) / 255)
    light = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inside = light[goods > 127]
    usual = max(1.0, float(np.median(inside))) if inside.size else 1.0
    shade = np.clip(light / usual, *SHADES)[..., None]
    ink = np.clip(any_tone(rng) * shade, 0, 255).astype(np.uint8)
    return cv2.blendLinear(ink, picture, share, np.float32(1) - share)


def _stripes(width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return coverage uint8 (height, width) of parallel stripes of any direction and width."""
    angle = float(rng.choice([0.0, np.pi / 2]) if rng.random() < 0.7 else rng.uniform(0, np.pi))
    period = min(width, height) * float(rng.uniform(*PERIODS))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    phase = (np.cos(angle) * x + np.sin(angle) * y) / period + float(rng.random())
    inside = np.abs(phase % 1 - 0.5) * period - 0.5 * period * float(rng.uniform(0.2, 0.8))
    return np.clip(127.5 - 255 * inside, 0, 255).astype(np.uint8)
