"""The gate that asks a detector whether a corrected image still has its defect.

It runs where images are committed, on a CPU core, one image at a time: the encoded file's pixels are at hand there, and
an actor stage of its own would send every corrected image around once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.contracts.label_map import LabelMap
from pipelines.images.resize import shrink_bicubic
from pipelines.inference.detector_input import OVERSAMPLING, letterbox, shrink
from pipelines.inference.labeller import Found, Labeller, load_labeller


@dataclass(frozen=True)
class DetectorGate:
    """Which detector, and what its labels mean. uri: of the bundle, of `version`."""

    uri: str
    version: str
    label_map: LabelMap

    def load(self) -> "Remaining":
        """The detector on this process's CPU. Raises BundleError where it is not of that version any more."""
        return Remaining(_labeller(self.uri, self.version), self.label_map)


@lru_cache(maxsize=1)
def _labeller(uri: str, version: str) -> Labeller:
    return load_labeller(uri, version, torch.device("cpu"), batch=1)


class Remaining:
    """A detector's view of corrected images."""

    def __init__(self, labeller: Labeller, label_map: LabelMap) -> None:
        self._labeller, self._label_map = labeller, label_map

    def scores(
        self, image: NDArray[np.uint8], defects: Sequence[str], product_type: str | None
    ) -> dict[str, float]:
        """How sure the detector is that `image` uint8 (H,W,3) shows each of `defects`: 0, or 0.5 to 1."""
        size = self._labeller.bundle.image_size
        side = OVERSAMPLING * size  # as `inference.labeller.read_input`
        (found,) = self._labeller([shrink(letterbox(shrink_bicubic(image, side), side), size)])
        return {defect: self._score(found, defect, product_type) for defect in defects}

    def _score(self, found: Found, defect: str, product_type: str | None) -> float:
        """The highest score of a label that means `defect`; 0 where there is none."""
        scores = [
            score
            for label, score in found
            for rule in self._label_map.rules
            if rule.defect == defect and rule.matches(label, score, product_type)
        ]
        return max(scores, default=0.0)
