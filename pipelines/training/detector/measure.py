"""Measures a detector on held-back rows: on the validation part, to calibrate it, and on the test split."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.detector.network import Calibration, Detector
from pipelines.contracts.label_map import LabelMap
from pipelines.images.decode import ImageError
from pipelines.images.pixels import to_tensor
from pipelines.shards.index import Index
from pipelines.shards.reading import read_rows
from pipelines.training.detector.calibration import calibrate, given_shares, label_scores
from pipelines.training.detector.decoding import SampleDecoding
from pipelines.training.detector.samples import Sample, Side
from pipelines.training.feed.batches import orders_of
from pipelines.training.feed.selected import spread

logger = logging.getLogger("train")

#: Images per pass. Fixed, so that a sample's result does not depend on the number of samples.
BATCH = 32


@dataclass(frozen=True)
class Measured:
    """Hold a detector's outputs. logits: (N,L) float64; present, known: (N,L) bool; kinds: what each image shows."""

    logits: NDArray[np.float64]
    present: NDArray[np.bool_]
    known: NDArray[np.bool_]
    kinds: list[str]

    def calibrations(self, precision: float) -> list[Calibration]:
        """Return the calibration of each label. precision: see `calibration.threshold`."""
        return [calibrate(*self._label(label), precision=precision) for label in range(self.logits.shape[1])]

    def scores(self, labels: tuple[str, ...], calibrations: list[Calibration]) -> dict[str, Any]:
        """Return `label_scores` of each label, and `given_shares` of each kind of image."""
        by_label = {
            name: label_scores(*self._label(label), calibrations[label]) for label, name in enumerate(labels)
        }
        return {"labels": by_label, "images": given_shares(self.logits, self.kinds, calibrations)}

    def _label(self, label: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        known = self.known[:, label]
        return self.logits[known, label], self.present[known, label]


def chosen_rows(index: Index, split: int, label_map: LabelMap, most: int) -> NDArray[np.int64]:
    """Return the numbers, ascending, of up to `most` rows per defect in a split (see `Index.of_split`).

    The rows are in runs spread over the data.
    """
    chosen = []
    for defect in label_map.defects.values():
        numbers = np.flatnonzero(index.having(defect.id, 0, split))
        chosen.append(numbers[spread(len(numbers), most)])
    return np.sort(np.concatenate(chosen))


def measured_samples(index: Index, numbers: NDArray[np.int64], decoding: SampleDecoding) -> Iterator[Sample]:
    """Yield `SampleConfig.measured_samples` of the rows with these numbers; of equal targets only one.

    A row that cannot be decoded is left out with a warning.
    """
    seen: set[bytes] = set()
    for order in orders_of(index, numbers):
        for row, _ in read_rows(order):
            try:
                source, target = decoding.sides(row, order)
            except ImageError as error:
                logger.warning("left out of the measurement: %s: %s", row["image_id"], error)
                continue
            if row["target"] is not None:
                digest = sha256(row["target"]).digest()
                target = Side(None, ()) if digest in seen else target
                seen.add(digest)
            yield from decoding.samples.measured_samples(row["image_id"], row["defect"], source, target)


@torch.inference_mode()
def measure(detector: Detector, samples: Iterator[Sample]) -> Measured:
    """Return the detector's outputs for all samples, computed in passes of BATCH."""
    device = next(detector.parameters()).device
    training = detector.training
    detector.eval()
    labels = detector.config.labels
    logits, present, known = ([np.zeros((0, len(labels)))] for _ in range(3))
    kinds: list[str] = []
    while batch := list(islice(samples, BATCH)):
        images = to_tensor(np.stack([sample.image for sample in batch]), device)
        logits.append(detector(images).double().cpu().numpy())
        present.append(np.stack([sample.present for sample in batch]))
        known.append(np.stack([sample.known for sample in batch]))
        kinds += [kind(sample, labels) for sample in batch]
    detector.train(training)
    return Measured(
        np.concatenate(logits),
        np.concatenate(present).astype(bool),
        np.concatenate(known).astype(bool),
        kinds,
    )


def kind(sample: Sample, labels: tuple[str, ...]) -> str:
    """Return in words what a sample shows."""
    names = [name for name, there in zip(labels, sample.present, strict=True) if there]
    return " + ".join(sorted(names, key=lambda name: name == sample.overlaid)) or "clean"
