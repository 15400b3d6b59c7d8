"""The gate that asks a detector whether a corrected image still has its defect.

It runs in the committing tasks, on a CPU core, one image at a time. They have the encoded file's pixels; an actor stage
of its own would send every corrected image around once more.
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
    """A detector and the meaning of its labels. uri, version: of its bundle."""

    uri: str
    version: str
    label_map: LabelMap

    def load(self) -> "Remaining":
        """Load the detector onto this process's CPU. Raises BundleError if the bundle has another version by now."""
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
        """Return the detector's score for each of `defects` in `image` uint8 (H,W,3): 0, or 0.5 to 1."""
        size = self._labeller.bundle.image_size
        side = OVERSAMPLING * size  # as `inference.labeller.read_input`
        (labels,) = self._labeller([shrink(letterbox(shrink_bicubic(image, side), side), size)])
        return {defect: self._score(labels, defect, product_type) for defect in defects}

    def _score(self, labels: Found, defect: str, product_type: str | None) -> float:
        """Return the highest score of a label that means `defect`; 0 if there is none."""
        scores = [
            score
            for label, score in labels
            for rule in self._label_map.rules
            if rule.defect == defect and rule.matches(label, score, product_type)
        ]
        return max(scores, default=0.0)
