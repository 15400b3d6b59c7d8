"""Measures how far a foreground mask can be trusted, from the mask and the photo alone.

The score is the minimum of seven ramps, because one clear fault is enough to spoil a target: a product composited on
white through a bad mask teaches the generator to cut products. The faults are those that Li et al. (2022) name:
transparency (certainty, semi-transparent share), similar colours (contrast across the contour, and in all of the
photo), and supporting objects (border contact, pieces). tests/benchmarks/saliency_quality.py measures whether the score
detects the bad masks.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.images.colour import local_mean, rgb_to_lab, separation
from pipelines.images.resize import shrink_bicubic

#: Scores are computed at this size (longest side, pixels), so that they do not depend on the photo's resolution.
WORKING_SIDE = 256
#: Connected pieces with at least this share of the product's area belong to it (a pair of shoes); others are debris.
PIECE_SHARE = 0.25
#: Width of the bands whose colours are compared on either side of the contour, as a share of the longest side.
BAND = 0.025


@dataclass(frozen=True)
class MaskMeasures:
    """Measures of a mask `a` in [0, 1]; each field's range is in its comment."""

    certainty: float  # mean |2a - 1|, in [0, 1]: 1 is a hard mask, 0 is a = 0.5 everywhere
    area: float  # share of the photo that is product (a > 0.5), in [0, 1]
    border_contact: float  # share of the photo's outermost pixels that are product, in [0, 1]
    whole: float  # share of the product's area in its largest pieces, in [0, 1]
    contrast: float  # median CIE76 colour difference across the contour, 0 to about 100
    separation: (
        float  # share of pixels whose colour reveals their side, both sides weighing the same, in [0.5, 1]
    )
    semi_transparent: float  # share of the product's pixels (a > 0.1) with a < 0.9, in [0, 1]

    def scores(self) -> dict[str, float]:
        """Return each measure's ramp in [0, 1]; the thresholds were set by looking at real sellers' photos."""
        return {
            "certainty": _ramp(self.certainty, 0.6, 0.9),
            "area": min(_ramp(self.area, 0.01, 0.05), _ramp(self.area, 0.95, 0.80)),
            "border_contact": _ramp(self.border_contact, 0.6, 0.1),
            "whole": _ramp(self.whole, 0.6, 0.95),
            "contrast": _ramp(self.contrast, 2.0, 10.0),
            "separation": _ramp(self.separation, 0.7, 0.95),
            "semi_transparent": _ramp(self.semi_transparent, 0.35, 0.10),
        }

    def quality(self) -> float:
        """Return the lowest of the scores, in [0, 1]."""
        return min(self.scores().values())


def mask_quality(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> float:
    """Return the quality in [0, 1] of `mask` (H, W) uint8, 255 is product, for `image` (H, W, 3) uint8 RGB.

    It is 0 for an empty mask. Raises ValueError if the sizes differ.
    """
    return measure_mask(image, mask).quality()


def measure_mask(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> MaskMeasures:
    """Return the measures of `mask` (H, W) uint8, 255 is product, for `image` (H, W, 3) uint8 RGB of the same size.

    Raises ValueError if the sizes differ.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(
            f"the mask is {mask.shape[1]}x{mask.shape[0]}, the photo {image.shape[1]}x{image.shape[0]}"
        )
    image = shrink_bicubic(image, WORKING_SIDE)
    mask = shrink_bicubic(np.repeat(mask[..., None], 3, axis=2), WORKING_SIDE)[..., 0]
    alpha = mask.astype(np.float32) / 255
    product = alpha > 0.5
    if not product.any():
        return MaskMeasures(*(0.0 for _ in fields(MaskMeasures)))
    touched = alpha > 0.1
    lab = rgb_to_lab(image)
    return MaskMeasures(
        certainty=float(np.abs(2 * alpha - 1).mean()),
        area=float(product.mean()),
        border_contact=_border_contact(product),
        whole=_whole(product),
        contrast=_contour_contrast(lab, product),
        separation=separation(lab, product),
        semi_transparent=float((touched & (alpha < 0.9)).sum() / touched.sum()),
    )


def _ramp(value: float, bad: float, good: float) -> float:
    """Return 0 at `bad`, 1 at `good`, linear between, clamped outside; `bad` may be above `good`."""
    return min(1.0, max(0.0, (value - bad) / (good - bad)))


def _border_contact(product: NDArray[np.bool_]) -> float:
    border = np.concatenate([product[0], product[-1], product[1:-1, 0], product[1:-1, -1]])
    return float(border.mean())


def _whole(product: NDArray[np.bool_]) -> float:
    labelled, count = ndimage.label(product, structure=np.ones((3, 3)))
    areas = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
    large = areas[areas >= PIECE_SHARE * areas.sum()]
    return float(max(large.sum(), areas.max()) / areas.sum())


def _contour_contrast(lab: NDArray[np.float32], product: NDArray[np.bool_]) -> float:
    """Return the median over the contour of the distance between the mean colours just inside and just outside."""
    side = 2 * max(1, round(BAND * max(product.shape))) + 1
    inside, inside_weight = local_mean(lab, product, side)
    outside, outside_weight = local_mean(lab, ~product, side)
    contour = product & ~ndimage.binary_erosion(product, border_value=1)
    contour &= (inside_weight > 0) & (outside_weight > 0)
    if not contour.any():
        return 0.0
    return float(np.median(np.linalg.norm((inside - outside)[contour], axis=-1)))
