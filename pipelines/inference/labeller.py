"""Labels uploads by a detector: encoded images to labels with scores."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.detector.network import DetectorBundle, probabilities, scores
from pipelines.images.decode import DecodeLimits
from pipelines.images.decode_apart import decode_image_apart
from pipelines.images.pixels import to_tensor
from pipelines.inference.bundles import check_unchanged
from pipelines.inference.detector_bundles import read_detector
from pipelines.inference.detector_input import OVERSAMPLING, letterbox, shrink

#: (label, score from 0.5 to 1) for each label that the detector gives an image, in the order of its labels.
Found = list[tuple[str, float]]
#: Decimals of a score. With more, the scores of two machines could differ.
DIGITS = 4


def read_input(data: bytes, size: int, limits: DecodeLimits) -> NDArray[np.uint8]:
    """Decode an upload to the detector's input, uint8 (size,size,3), as its training does. Raises ImageError."""
    side = OVERSAMPLING * size
    return shrink(letterbox(decode_image_apart(data, limits, max_side=side), side), size)


class Labeller:
    """Run a detector on a device, in float32 and in passes of exactly `batch` images.

    The last pass is filled up with repetitions, so that an image's scores do not depend on its neighbours.
    """

    def __init__(self, bundle: DetectorBundle, device: torch.device, batch: int) -> None:
        self.bundle, self.batch, self._device = bundle, batch, device
        self._detector = bundle.detector.for_inference().to(device)

    @torch.inference_mode()
    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Found]:
        """Return the labels of 1 to `batch` images, uint8 (S,S,3) each.

        An image gets a label if its score reaches 0.5, the label's threshold (`model.detector.network.scores`).
        """
        count, calibrations = len(images), self.bundle.calibrations
        full = np.stack([images[min(index, count - 1)] for index in range(self.batch)])
        probability = probabilities(self._detector(to_tensor(full, self._device)).double(), calibrations)
        all_scores = scores(probability, calibrations)[:count].cpu().numpy()
        return [
            [
                (label, round(float(score), DIGITS))
                for label, score in zip(self.bundle.labels, row, strict=True)
                if score >= 0.5  # before rounding, which could lift a score just below
            ]
            for row in all_scores
        ]


def load_labeller(uri: str, version: str, device: torch.device, batch: int) -> Labeller:
    """Return the labeller of the bundle at `uri`. Raises BundleError if it no longer has that version."""
    bundle = read_detector(uri)
    check_unchanged(bundle.version, version, f"--detector {uri}")
    return Labeller(bundle, device, batch)
