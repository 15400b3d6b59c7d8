"""Defects drawn into clean product images, so that training and the sample catalog have exact pairs.

Each is a function of the image, uint8 (H, W, 3) RGB, and a numpy Generator: the same image and seed give the same
pixels. The image itself is not changed. `synthesis` returns them by name, including those of other distributions.
"""

from pipelines.synthesis.defects.angle import rotate, tilt, wrong_angle
from pipelines.synthesis.defects.background import (
    composite_on_white,
    non_white_background,
    product_alpha,
    put_on_background,
)
from pipelines.synthesis.defects.registry import Synthesis, known_syntheses, synthesis
from pipelines.synthesis.defects.watermark import MAX_OPACITY, MIN_OPACITY, add_watermark

__all__ = [
    "MAX_OPACITY",
    "MIN_OPACITY",
    "Synthesis",
    "add_watermark",
    "composite_on_white",
    "known_syntheses",
    "non_white_background",
    "product_alpha",
    "put_on_background",
    "rotate",
    "synthesis",
    "tilt",
    "wrong_angle",
]
