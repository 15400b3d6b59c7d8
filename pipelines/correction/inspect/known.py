"""Reads what earlier runs have done: keys of the rows of the manifest, and of the journals that killed runs left.

One task builds the sets of keys, and Ray's object store shares them: 16 bytes per row and set on each node, nothing
on the driver.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipelines.contracts.error_codes import EVERY_CODE
from pipelines.published.layout import Layers
from pipelines.published.parts import read_parts
from pipelines.published.row_keys import Keys, KeySet, column_keys, id_keys

T = TypeVar("T")


@dataclass(frozen=True)
class Known:
    """Finished work of earlier runs. rows: keys of rows that may stay as they are. images: keys of images that need no
    new correction.

    superseded: for each layer (see `layout.Layers`) the ids that a later attempt has finished. retry_failed: failed
    rows with these codes do not stay, whatever their keys.
    """

    rows: KeySet = field(default_factory=KeySet)
    images: KeySet = field(default_factory=KeySet)
    superseded: tuple[KeySet, ...] = ()
    retry_failed: tuple[str, ...] = ()


def build_known(layers: Layers, retry_failed: tuple[str, ...] = ()) -> "tuple[Known, KnownCounts]":
    """Read the keys of all layers' rows, without those of failed rows that are tried again. Raises StorageReadError,
    and ConfigurationError for a manifest of a later release.
    """
    superseded = _superseded(layers)
    rows: list[Keys] = []
    images: list[Keys] = []
    counts: list[tuple[int, ...]] = []
    statuses: Counter[str] = Counter()
    for parts, later in zip(layers.rows, superseded, strict=True):
        lengths: list[int] = []
        columns = (*(("image_id",) if len(later) else ()), *(("error_code",) if retry_failed else ()))
        for table in read_parts(parts, (*columns, "row_key", "image_key", "status")):
            lengths.append(table.num_rows)
            statuses.update(table.column("status").to_pylist())
            usable = _usable(table, later, retry_failed)
            for keys, name in ((rows, "row_key"), (images, "image_key")):
                keys.append(column_keys(table.column(name).filter(pa.array(usable))))
        counts.append(tuple(lengths))
    return Known(_set(rows), _set(images), superseded, retry_failed), KnownCounts(tuple(counts), statuses)


@dataclass(frozen=True)
class KnownCounts:
    """Row counts of earlier runs, for the driver. rows: for each layer, of its parts. statuses: over all layers."""

    rows: tuple[tuple[int, ...], ...]
    statuses: Mapping[str, int]

    @property
    def total(self) -> int:
        """Number of rows in all layers."""
        return sum(map(sum, self.rows))


def find_known(layers: Layers, retry_failed: tuple[str, ...]) -> "tuple[ray.ObjectRef[Known], KnownCounts]":
    """Call `build_known` in a Ray task."""
    if not any(layers.rows):
        known, counts = build_known(layers, retry_failed)
        return ray.put(known), counts
    build: Any = ray.remote(num_cpus=0.5, num_returns=2, retry_exceptions=True)(build_known)
    reference, counts_reference = build.remote(layers, retry_failed)
    return reference, ray.get(counts_reference)


def fetched(value: "T | ray.ObjectRef[T]") -> T:
    """Return the object itself, if `value` is a reference to it in Ray's object store."""
    return ray.get(value) if isinstance(value, ray.ObjectRef) else value


def is_tried_again(rows: pa.Table, retry_failed: tuple[str, ...]) -> np.ndarray:
    """Return (N,): whether each row of a manifest failed, with one of the codes of --retry-failed."""
    failed = rows.column("status").to_numpy() == "failed"
    if EVERY_CODE in retry_failed:
        return np.asarray(failed)
    codes = pc.is_in(rows.column("error_code"), pa.array(retry_failed, pa.string()))
    return np.asarray(failed & np.asarray(codes, bool))


def _usable(table: pa.Table, later: KeySet, retry_failed: tuple[str, ...]) -> np.ndarray:
    usable = np.ones(table.num_rows, bool)
    if retry_failed:
        usable &= ~is_tried_again(table, retry_failed)
    if len(later):
        usable &= ~later.has(id_keys(table.column("image_id").to_pylist()))
    return usable


def _superseded(layers: Layers) -> tuple[KeySet, ...]:
    """Return, for each layer, the ids of all later attempts."""
    superseded: list[KeySet] = [KeySet() for _ in layers.rows]
    for index in range(len(layers.rows) - 1, 0, -1):
        tables = read_parts(layers.rows[index], ("image_id",))
        ids = [id_keys(table.column("image_id").to_pylist()) for table in tables]
        superseded[index - 1] = _set([superseded[index].keys, *ids])
    return tuple(superseded)


def _set(arrays: Sequence[Keys]) -> KeySet:
    return KeySet(np.concatenate([KeySet().keys, *arrays]))
