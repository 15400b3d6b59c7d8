"""A detector over held-back rows: the rows it is calibrated on, and those of the test split."""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from model.detector import Calibration, Detector
from pipelines import storage
from pipelines.decode import ImageError
from pipelines.detection.calibration import calibrate, given_shares, label_scores
from pipelines.detection.samples import Sample, SampleConfig
from pipelines.label_map import LabelMap
from pipelines.pixels import to_tensor
from pipelines.splits import hash_number
from pipelines.training.decoding import read_rows
from pipelines.training.feed import orders_of
from pipelines.training.index import TEST, UNUSED, Index
from pipelines.training.source import spread

logger = logging.getLogger("train")

#: Share of the training split's photos, by hash of their id, that train nothing: thresholds come from them.
CALIBRATION_SHARE = 0.1
#: Rows that a product has at most: some photos of it, each with a few defects.
PRODUCT_ROWS = 64
#: Of fewer products, or of a small tree of folders, one in ten may be none or all: there photos are told apart.
LEAST_PRODUCTS = 50
#: Images in a pass: the answer of a sample must not depend on how many there are.
BATCH = 32
_THREADS = 16


def hold_out(index: Index) -> tuple[Index, NDArray[np.bool_]]:
    """The index without the rows for calibration, which have no type there; and (N,), which rows these are.

    All rows of a photo are on one side, and all photos of a product: they share the main picture as their target. A
    product is what ids below one folder are, as PRODUCT/PHOTO, where they are PRODUCT_ROWS at most, and such folders
    LEAST_PRODUCTS or more; a folder of more rows is somebody's way to keep files. Reads the column of ids; holds 32
    bytes a row. Raises ConfigurationError for a shard that cannot be read.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(_id_hashes, index.files))
    photos, folders = (np.concatenate(part) for part in zip(*found, strict=True))
    names, places, counts = np.unique(folders, return_inverse=True, return_counts=True)
    are_products = (counts <= PRODUCT_ROWS) & (names > 0)
    of_product = are_products[places] & (are_products.sum() >= LEAST_PRODUCTS)
    deciding = np.where(of_product, folders, photos)
    held = index.training & (deciding < np.uint64(CALIBRATION_SHARE * 2**64))
    return replace(index, types=np.where(held, UNUSED, index.types).astype(np.int16)), held


def _id_hashes(file: str) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(n,) each: of every row's id, and of the folder that it lies in, 0 for none."""
    with storage.as_configuration_error(file, "--data", "read"):
        filesystem, path = storage.arrow_filesystem(file)
        ids = pq.read_table(path, filesystem=filesystem, columns=["image_id"])["image_id"].to_pylist()
    ids = [image_id or "" for image_id in ids]
    folders = (image_id.rpartition("/")[0] for image_id in ids)
    return (
        np.array([_hash(image_id) for image_id in ids], np.uint64),
        np.array([_hash(folder) if folder else 0 for folder in folders], np.uint64),
    )


def _hash(text: str) -> int:
    return hash_number("calibration", text) >> 192


@dataclass(frozen=True)
class Measured:
    """A detector's answers. logits: (N,L) float64; present, known: (N,L) bool; kinds: what each image shows."""

    logits: NDArray[np.float64]
    present: NDArray[np.bool_]
    known: NDArray[np.bool_]
    kinds: list[str]

    def calibrations(self, precision: float) -> list[Calibration]:
        """By label."""
        return [calibrate(*self._label(label), precision=precision) for label in range(self.logits.shape[1])]

    def scores(self, labels: tuple[str, ...], calibrations: list[Calibration]) -> dict[str, Any]:
        """`label_scores` of each label, and `given_shares` of each kind of image."""
        found = {
            name: label_scores(*self._label(label), calibrations[label]) for label, name in enumerate(labels)
        }
        return {"labels": found, "images": given_shares(self.logits, self.kinds, calibrations)}

    def _label(self, label: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        known = self.known[:, label]
        return self.logits[known, label], self.present[known, label]


def chosen_rows(index: Index, rows: NDArray[np.bool_], label_map: LabelMap, most: int) -> NDArray[np.int64]:
    """Numbers of up to `most` rows of every defect among `rows`, in runs spread over the data; ascending."""
    found = []
    for defect in label_map.defects.values():
        numbers = np.flatnonzero(rows & (index.types == defect.id))
        found.append(numbers[spread(len(numbers), most)])
    return np.sort(np.concatenate(found))


def held_back_rows(index: Index) -> NDArray[np.bool_]:
    """(N,): the rows of the test split."""
    return (index.types != UNUSED) & (index.kinds & TEST > 0)


def _chance(row: Mapping[str, Any]) -> np.random.Generator:
    """Of what is drawn into a row to measure with: the same in every run."""
    return np.random.default_rng(hash_number("measured", row["image_id"], row["defect"]))


def measured_samples(index: Index, numbers: NDArray[np.int64], config: SampleConfig) -> Iterator[Sample]:
    """`SampleConfig.measured_samples` of the rows with these numbers; one target of each content.

    What cannot be decoded is left out with a warning.
    """
    seen: set[bytes] = set()
    for order in orders_of(index, numbers):
        for row, _ in read_rows(order):
            try:
                source, target = (config.canvas(row, side, _chance(row)) for side in ("source", "target"))
            except ImageError as error:
                logger.warning("left out of measuring: %s: %s", row["image_id"], error)
                continue
            if row["target"] is not None:
                digest = sha256(row["target"]).digest()
                target = None if digest in seen else target
                seen.add(digest)
            yield from config.measured_samples(row["image_id"], row["defect"], source, target)


@torch.inference_mode()
def measure(detector: Detector, samples: Iterator[Sample]) -> Measured:
    """The detector's logits of all samples, in passes of BATCH."""
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
    """What a sample shows, in words."""
    if not sample.is_source:
        return "clean"
    names = [name for name, there in zip(labels, sample.present, strict=True) if there]
    return " + ".join(sorted(names, key=lambda name: name == sample.overlaid))
