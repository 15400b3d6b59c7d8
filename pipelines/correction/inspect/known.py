"""Reads what earlier runs have done: keys of the rows of the manifest, and of the journals that killed runs left.

Tasks read the parts and build the sets of keys, and Ray's object store shares them: 16 bytes per row and set on each
node, and on the driver only the number of rows of each part.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipelines.cluster.placement import fetched, in_task
from pipelines.contracts.error_codes import EVERY_CODE
from pipelines.published.key_shards import (
    READ_BYTES,
    Call,
    KeyShards,
    divided,
    file_groups,
    here,
    read_set,
    shards_for,
    sorted_keys,
)
from pipelines.published.layout import Layers
from pipelines.published.parts import read_parts
from pipelines.published.row_keys import Keys, KeySet, column_keys, id_keys

#: Rows of a part, about, of the manifest (`publish.assemble.PART_ROWS` at most) and of a journal.
_MANIFEST_ROWS, _JOURNAL_ROWS = 100_000, 500


@dataclass(frozen=True)
class Known:
    """Finished work of earlier runs. rows: keys of rows that may stay as they are. images: keys of images that need no
    new correction.

    superseded: for each layer (see `layout.Layers`) the ids that a later attempt has finished. retry_failed: failed
    rows with these codes do not stay, whatever their keys.
    """

    rows: KeySet | KeyShards = field(default_factory=KeySet)
    images: KeySet | KeyShards = field(default_factory=KeySet)
    superseded: tuple[KeySet | KeyShards, ...] = ()
    retry_failed: tuple[str, ...] = ()


def build_known(
    layers: Layers, retry_failed: tuple[str, ...] = (), call: Call = here
) -> "tuple[Known, KnownCounts]":
    """Read the keys of all layers' rows, without those of failed rows that are tried again. Raises StorageReadError,
    and ConfigurationError for a manifest of a later release.

    call: `key_shards.here` or `placement.in_task`.
    """
    sizes = [_MANIFEST_ROWS, *[_JOURNAL_ROWS] * (len(layers.rows) - 1)]
    shards = shards_for(sum(size * len(parts) for size, parts in zip(sizes, layers.rows, strict=True)))
    superseded = _superseded(layers, shards, call)
    read = [
        [
            call(_read_keys, 1 + 2 * shards, group, later, retry_failed, shards, memory=READ_BYTES)
            for group in file_groups(parts, size)
        ]
        for parts, later, size in zip(layers.rows, superseded, sizes, strict=True)
    ]
    counts: list[list[_Counts]] = [[fetched(counted) for counted, *_ in layer] for layer in read]
    keys = [arrays for layer in read for _, *arrays in layer]
    usable = sum(one.rows for layer in counts for one in layer)
    rows = sorted_keys([arrays[:shards] for arrays in keys], usable, call)
    images = sorted_keys(
        [arrays[shards:] for arrays in keys], sum(one.images for layer in counts for one in layer), call
    )
    lengths = tuple(tuple(length for one in layer for length in one.lengths) for layer in counts)
    statuses = sum((one.statuses for layer in counts for one in layer), Counter[str]())
    return Known(rows, images, tuple(superseded), retry_failed), KnownCounts(lengths, statuses)


@dataclass(frozen=True)
class _Counts:
    """Of some parts: rows of each, rows by status, and the numbers of keys of rows and of images."""

    lengths: list[int]
    statuses: Counter[str]
    rows: int
    images: int


def _read_keys(
    parts: Sequence[str], later: "KeySet | KeyShards", retry_failed: tuple[str, ...], shards: int
) -> list[Any]:
    """Return _Counts and the keys of rows, then of images, of each shard. later: ids of rows that do not count."""
    lengths: list[int] = []
    statuses: Counter[str] = Counter()
    found: dict[str, list[Keys]] = {"row_key": [], "image_key": []}
    columns = (*(("image_id",) if len(later) else ()), *(("error_code",) if retry_failed else ()))
    for table in read_parts(parts, (*columns, *found, "status")):
        lengths.append(table.num_rows)
        statuses.update(table.column("status").to_pylist())
        usable = pa.array(_usable(table, later, retry_failed))
        for name, keys in found.items():
            keys.append(column_keys(table.column(name).filter(usable)))
    counts = _Counts(lengths, statuses, *(sum(map(len, keys)) for keys in found.values()))
    return [counts, *(part for keys in found.values() for part in divided(keys, shards))]


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
    """Call `build_known` with Ray tasks."""
    known, counts = build_known(layers, retry_failed, in_task)
    return ray.put(known), counts


def is_tried_again(rows: pa.Table, retry_failed: tuple[str, ...]) -> np.ndarray:
    """Return (N,): whether each row of a manifest failed, with one of the codes of --retry-failed."""
    failed = rows.column("status").to_numpy() == "failed"
    if EVERY_CODE in retry_failed:
        return np.asarray(failed)
    codes = pc.is_in(rows.column("error_code"), pa.array(retry_failed, pa.string()))
    return np.asarray(failed & np.asarray(codes, bool))


def _usable(table: pa.Table, later: KeySet | KeyShards, retry_failed: tuple[str, ...]) -> np.ndarray:
    usable = np.ones(table.num_rows, bool)
    if retry_failed:
        usable &= ~is_tried_again(table, retry_failed)
    if len(later):
        usable &= ~later.has(id_keys(table.column("image_id").to_pylist()))
    return usable


def _superseded(layers: Layers, shards: int, call: Call) -> list[KeyShards]:
    """Return, for each layer, the ids of all later attempts."""
    superseded = [KeyShards() for _ in layers.rows]
    for index in range(len(layers.rows) - 1, 0, -1):
        later = superseded[index]
        superseded[index - 1] = read_set(_ids, layers.rows[index], _JOURNAL_ROWS, shards, call, later)
        superseded[index - 1].wait()
    return superseded


def _ids(parts: Sequence[str]) -> Iterator[Keys]:
    for table in read_parts(parts, ("image_id",)):
        yield id_keys(table.column("image_id").to_pylist())
