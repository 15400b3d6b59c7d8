"""Prepared datasets as a training reads them: where the shards are, their rows, and what a do-nothing model scores."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.label_map import LabelMap
from pipelines.schemas import SHARD
from pipelines.training.data import decode_row

#: Rows read from a shard at a time.
READ_ROWS = 64


@dataclass(frozen=True)
class TrainingSource:
    """One or more prepared datasets that share a label map. fingerprint: hash of theirs."""

    shards: tuple[str, ...]
    label_map: LabelMap
    fingerprint: str

    def describe(self) -> dict[str, Any]:
        """For the bundle's config.json."""
        return {"fingerprint": self.fingerprint, "shards": len(self.shards)}


def open_source(uris: Sequence[str]) -> TrainingSource:
    """Find shards, label map and fingerprint below each --data URI. Raises ConfigurationError for what is missing."""
    shards: list[str] = []
    maps: dict[str, LabelMap] = {}
    digest = sha256()
    for uri in uris:
        with storage.as_configuration_error(uri, "--data", "read"):
            found = storage.list_files(storage.join(uri, "shards"), ".parquet")
        if not found:
            raise ConfigurationError(
                f"--data {uri}: no shards/*.parquet there; make them with jobs/prepare_dataset.py"
            )
        with storage.as_configuration_error(found[0], "--data", "read"):
            fs, path = storage.resolve(found[0])
            missing = set(SHARD.names) - set(pq.read_schema(path, filesystem=fs).names)
        if missing:
            raise ConfigurationError(
                f"--data {uri}: {found[0]} lacks the columns {', '.join(sorted(missing))}"
            )
        shards += found
        maps[uri] = LabelMap.parse(_read(uri, "label_map.yaml"), storage.join(uri, "label_map.yaml"))
        digest.update(_fingerprint(uri).encode())
    first, label_map = next(iter(maps.items()))
    for uri, other in maps.items():
        if (other.groups, other.defects) != (label_map.groups, label_map.defects):
            raise ConfigurationError(
                f"--data {uri}: its label map has other groups or defects than that of {first}"
            )
    return TrainingSource(tuple(shards), label_map, digest.hexdigest())


def _fingerprint(uri: str) -> str:
    try:
        return str(json.loads(_read(uri, "dataset.json"))["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"--data {uri}: dataset.json is damaged or has no fingerprint; make it with jobs/prepare_dataset.py"
        ) from error


def _read(uri: str, name: str) -> bytes:
    try:
        return storage.read_bytes(storage.join(uri, name))
    except storage.STORAGE_ERRORS as error:
        raise ConfigurationError(
            f"--data {uri}: cannot read {name} ({type(error).__name__}); make it with jobs/prepare_dataset.py"
        ) from error


def shard_rows(shards: Iterable[str], split: str) -> Iterator[dict[str, Any]]:
    """Rows of one split, images still encoded, shard after shard; one small batch in memory at a time."""
    for shard in shards:
        fs, path = storage.resolve(shard)
        with fs.open(path, "rb") as file:
            for batch in pq.ParquetFile(file).iter_batches(READ_ROWS, columns=SHARD.names):
                yield from (row for row in batch.to_pylist() if row["split"] == split)


def train_pairs(source: TrainingSource, repeat: Mapping[str, int]) -> int:
    """Number of trusted pairs that an epoch uses of the training split, from small columns.

    repeat: how often an epoch uses a defect's rows, where that is not once.
    """
    total = 0
    for shard in source.shards:
        with storage.as_configuration_error(shard, "--data", "read"):
            fs, path = storage.resolve(shard)
            with fs.open(path, "rb") as file:
                rows = pq.read_table(file, columns=["pairing", "split", "defect"]).to_pylist()
        total += sum(
            repeat.get(row["defect"], 1)
            for row in rows
            if row["pairing"] == "paired" and row["split"] == "train"
        )
    return total


def local_rows(
    source: TrainingSource,
    epoch: int,
    size: int,
    cropped: frozenset[str],
    uses: Callable[[Mapping[str, Any]], int],
) -> Iterator[dict[str, Any]]:
    """Decoded training rows in process, shards in an order drawn from the epoch; each row as often as `uses` says."""
    order = np.random.default_rng(epoch).permutation(len(source.shards))
    for row in shard_rows((source.shards[index] for index in order), "train"):
        count = uses(row)
        if count:
            yield from [decode_row(row, size, cropped)] * count


def first_pairs(source: TrainingSource, split: str, per_defect: int, size: int) -> list[dict[str, Any]]:
    """Up to `per_defect` decoded trusted pairs of every defect: a fixed set to look at and to score."""
    taken: dict[str, int] = defaultdict(int)
    chosen = []
    wanted = per_defect * len(source.label_map.defects)
    for row in shard_rows(source.shards, split):
        if row["pairing"] == "paired" and taken[row["defect"]] < per_defect:
            taken[row["defect"]] += 1
            chosen.append(decode_row(row, size))
        if len(chosen) == wanted:
            break
    return chosen


def do_nothing_errors(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Per defect the mean |x - y| over decoded pairs, on the model's scale of [-1, 1]: what returning x would cost."""
    errors: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        difference = np.abs(row["source"].astype(np.float64) - row["target"])
        errors[row["defect"]].append(float(difference.mean()) / 127.5)
    return {defect: float(np.mean(values)) for defect, values in errors.items()}


def task_weights(label_map: LabelMap, errors: Mapping[str, float]) -> tuple[float, ...]:
    """1 / do-nothing error by type id, so that every task starts with a reconstruction loss of about 1.

    A defect without pairs gets 1. Raises ConfigurationError for a defect whose sources equal its targets.
    """
    weights = [1.0] * (1 + max(defect.id for defect in label_map.defects.values()))
    for name, error in errors.items():
        if error <= 0:
            raise ConfigurationError(
                f"defect {name}: sources equal targets in the data; nothing can be learned from them"
            )
        weights[label_map.defects[name].id] = 1 / error
    return tuple(weights)
