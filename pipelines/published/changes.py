"""Writes what a run has changed in the manifest, for consumers: OUTPUT/changes/<run>.parquet.

While the next manifest is assembled, each task sets aside the rows that are new and those that are gone
(`set_aside`). Then both are joined by id (`find_changes`): an id among both has changed, unless only columns differ
that nobody but the next run reads. Few rows are joined at once on the driver; many by tasks, of which each takes a
range of the ids' hashes and writes a part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.errors import RunError
from pipelines import storage
from pipelines.cluster.placement import fetched, in_task
from pipelines.contracts.schemas import CHANGES, MANIFEST, PREVIOUS_RUN_KEY, RUN_KEY, stamped
from pipelines.published.key_shards import here
from pipelines.published.parts import parquet_bytes, read_manifest, write_object
from pipelines.published.row_keys import ID_BUCKETS, id_buckets, id_keys
from pipelines.storage.parquet_units import StorageReadError, count_rows

ADDED, CHANGED, REMOVED = "added", "changed", "removed"
#: Folders below that of the rows that are set aside.
_NEW, _GONE = "new", "gone"
#: Rows that one task joins, about; with more, the changes are a folder of parts.
PART_ROWS = 200_000
#: Rows per row group of what is set aside: a task reads those that overlap its range.
_ROW_GROUP = 8192
_BUCKET, _JOINED = "bucket", "joined"
_SET_ASIDE = pa.schema([*MANIFEST, (_BUCKET, pa.int16())])
#: Columns that do not make a row a changed one.
_NOT_COMPARED = {"corrected_at"}
_COMPARED = tuple(name for name in CHANGES.names if name in MANIFEST.names and name not in _NOT_COMPARED)


@dataclass(frozen=True)
class Changes:
    """What a run changed. files: their names below OUTPUT/changes. counts: rows by kind."""

    files: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((ADDED, CHANGED, REMOVED), 0))


def set_aside(new: pa.Table, gone: pa.Table, folder: str, name: str) -> int:
    """Write rows of MANIFEST that are new and that are gone; return their number. Raises StorageWriteError.

    folder: of what is set aside. name: of the file, unique among the sources of these rows.
    """
    for rows, kind in ((new, _NEW), (gone, _GONE)):
        if rows.num_rows:
            buckets = id_buckets(id_keys(rows.column("image_id").to_pylist()))
            order = pa.array(np.argsort(buckets, kind="stable"))
            rows = rows.append_column(_BUCKET, pa.array(buckets, pa.int16())).take(order)
            write_object(storage.join(folder, kind, name), parquet_bytes(rows, _ROW_GROUP))
    return int(new.num_rows + gone.num_rows)


def write_changes(rows: int, aside: str, folder: str, run: str, previous: str) -> Changes:
    """Join what was set aside, and write it as one file named after the run, or as a folder of parts.

    rows: number set aside in `aside`. folder: of the result, before it is published. previous: name of the run whose
    manifest is compared with; "" if there is none, and all rows are new. Raises RunError if rows are missing, and what
    tasks raise.
    """
    shards = max(1, min(ID_BUCKETS, -(-rows // PART_ROWS)))
    files = _names(run, shards)
    stamps = {RUN_KEY: run, PREVIOUS_RUN_KEY: previous}
    calls = [(aside, shard, shards, storage.join(folder, file), stamps) for shard, file in enumerate(files)]
    call = in_task if len(calls) > 1 else here
    found = list(map(fetched, [call(find_changes, 1, *arguments) for arguments in calls]))
    if sum(one[_JOINED] for one in found) != rows:
        raise RunError(
            f"{rows} rows of the changes were set aside, and others are in {aside}; nothing was published: run again"
        )
    return Changes(files, {kind: sum(one[kind] for one in found) for kind in (ADDED, CHANGED, REMOVED)})


def write_all_added(parts: Sequence[str], folder: str, run: str) -> Changes:
    """Write the rows of a manifest as a beginning, from which consumers drop what they have: all of them were added.

    parts: of the manifest. folder: of the result, before it is published. Raises StorageReadError and
    StorageWriteError.
    """
    total = count_rows(parts)
    groups = [list(parts)] if total <= PART_ROWS else [[part] for part in parts]
    files = _names(run, len(groups))
    stamps = {RUN_KEY: run, PREVIOUS_RUN_KEY: ""}
    for file, group in zip(files, groups, strict=True):
        added = [join(read_manifest(part), MANIFEST.empty_table()) for part in group]
        write_object(storage.join(folder, file), parquet_bytes(stamped(pa.concat_tables(added), stamps)))
    return Changes(files, {ADDED: total, CHANGED: 0, REMOVED: 0})


def _names(run: str, count: int) -> list[str]:
    """Return the names of a run's `count` files: one file named after the run, or parts in a folder of that name."""
    name = f"{run}.parquet"
    return [name] if count == 1 else [f"{name}/part-{number:05}.parquet" for number in range(count)]


def find_changes(aside: str, shard: int, shards: int, uri: str, stamps: Mapping[str, str]) -> dict[str, int]:
    """Join one shard of what was set aside, write it to `uri`, and return its rows by kind, and how many were joined.

    Raises StorageReadError and StorageWriteError.
    """
    first, behind = (ID_BUCKETS * number // shards for number in (shard, shard + 1))
    new, gone = (_read(storage.join(aside, kind), first, behind) for kind in (_NEW, _GONE))
    changes = join(new, gone)
    write_object(uri, parquet_bytes(stamped(changes, stamps)))
    counted = {ADDED: 0, CHANGED: 0, REMOVED: 0, _JOINED: new.num_rows + gone.num_rows}
    for one in changes.column("change").value_counts().to_pylist():
        counted[one["values"]] = one["counts"]
    return counted


def _read(folder: str, first: int, behind: int) -> pa.Table:
    """Return the rows of MANIFEST in a folder whose ids are in the buckets from `first` on, before `behind`."""
    tables = [_SET_ASIDE.empty_table()]
    filters = [(_BUCKET, ">=", first), (_BUCKET, "<", behind)]
    for uri in storage.list_files(folder, ".parquet"):
        filesystem, path = storage.arrow_filesystem(uri)
        try:
            tables.append(pq.read_table(path, filesystem=filesystem, filters=filters, partitioning=None))
        except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
            raise StorageReadError(f"cannot read {uri}: {type(error).__name__}: {error}") from error
    return pa.concat_tables(tables).drop_columns(_BUCKET).combine_chunks()


def join(new: pa.Table, gone: pa.Table) -> pa.Table:
    """Return rows of CHANGES, in the order of ids, from rows of MANIFEST that are new and that are gone."""
    before = pc.index_in(new.column("image_id"), gone.column("image_id").combine_chunks())
    known = pc.is_valid(before)
    again = new.filter(known)
    differs = pa.array(~equal_rows(again, gone.take(before.drop_null()), _COMPARED))
    left = pc.invert(pc.is_in(gone.column("image_id"), new.column("image_id").combine_chunks()))
    kinds = {ADDED: new.filter(pc.invert(known)), CHANGED: again.filter(differs), REMOVED: gone.filter(left)}
    tables = [
        rows.append_column("change", pa.repeat(pa.scalar(kind), rows.num_rows)).select(CHANGES.names)
        for kind, rows in kinds.items()
    ]
    return pa.concat_tables([CHANGES.empty_table(), *tables]).sort_by("image_id")


def equal_rows(one: pa.Table, other: pa.Table, columns: Sequence[str]) -> NDArray[np.bool_]:
    """Return (N,): whether the rows of two tables of N rows are equal in `columns`; null equals null."""
    same = np.ones(one.num_rows, bool)
    for name in columns:
        ours, theirs = (_scalars(table.column(name)) for table in (one, other))
        both_null = pc.and_(pc.is_null(ours), pc.is_null(theirs))
        equal = pc.or_(pc.fill_null(pc.equal(ours, theirs), False), both_null)
        same &= np.asarray(equal.combine_chunks().to_numpy(zero_copy_only=False), bool)
    return same


def _scalars(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of lists of text as one of texts, which can be compared."""
    return pc.binary_join(column, "\0") if pa.types.is_list(column.type) else column
