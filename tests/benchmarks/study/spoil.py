"""Masks that are spoilt on purpose, in the ways in which saliency networks fail. All follows from the photo's id."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.contracts.hashing import hash_number

Mask = NDArray[np.uint8]

#: How far a mask is dilated, and how far it is shifted, as shares of the photo's longest side.
GROWTH, SHIFT = 0.05, 0.08
#: Holes, and their radius as a share of the root of the product's area.
HOLES, HOLE_RADIUS = 4, 0.16


def spoil(mask: Mask, image_id: str) -> Mask:
    """Return a mask (H, W), 255 is product, with one of three faults."""
    rng = np.random.default_rng(hash_number("spoil", image_id))
    faults = (_dilated, _shifted, _with_holes)
    return faults[int(rng.integers(len(faults)))](mask, rng)


def _dilated(mask: Mask, rng: np.random.Generator) -> Mask:
    """Add a rim of background, as where colours are similar."""
    side = 2 * max(1, round(GROWTH * max(mask.shape))) + 1
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def _shifted(mask: Mask, rng: np.random.Generator) -> Mask:
    """Cut the product on one side and show background on the other."""
    angle, length = rng.uniform(0, 2 * math.pi), max(1.0, SHIFT * max(mask.shape))
    move = np.float32([[1, 0, length * math.cos(angle)], [0, 1, length * math.sin(angle)]])
    return cv2.warpAffine(mask, move, mask.shape[::-1])


def _with_holes(mask: Mask, rng: np.random.Generator) -> Mask:
    """Cut discs out of the product, as where it is bright or transparent."""
    rows, columns = np.nonzero(mask > 127)
    holed = mask.copy()
    if len(rows) == 0:
        return holed
    radius = max(2, round(HOLE_RADIUS * math.sqrt(len(rows))))
    for position in rng.integers(len(rows), size=HOLES):
        cv2.circle(holed, (int(columns[position]), int(rows[position])), radius, 0, -1)
    return holed
