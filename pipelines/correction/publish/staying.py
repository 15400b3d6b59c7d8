"""Selects the rows of the last manifest and of killed attempts that stay: those whose key the catalog still has, and
those whose image was read and is unchanged, which get the catalog's new values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipelines.cluster.placement import fetched
from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.inspect.known import is_tried_again
from pipelines.correction.rows import REFRESHED
from pipelines.published.changes import equal_rows
from pipelines.published.key_shards import Call, KeyShards, here, read_set, shards_for
from pipelines.published.parts import read_parts
from pipelines.published.row_keys import Keys, KeySet, column_keys, id_keys
from pipelines.storage.parquet_units import SMALL_COLUMNS_ROWS

#: Bytes of memory for each refreshed row while they are sorted.
_REFRESHED_BYTES = 500


@dataclass(frozen=True)
class Refreshed:
    """Rows whose image was read and is unchanged. images: their keys, sorted. values: rows of REFRESHED in this order.

    `values` has no `image_key`, and repeated text in dictionaries to save memory: every node holds it, and after all
    files of a catalog were rewritten it has as many rows as the manifest.
    """

    images: KeySet
    values: pa.Table


@dataclass(frozen=True)
class Staying:
    """Rows of earlier runs that stay. rows: keys of rows that stay as they are."""

    rows: KeySet | KeyShards
    refreshed: "Refreshed | ray.ObjectRef[Refreshed]"


def find_staying(
    plan_parts: Sequence[str],
    refreshed_parts: Sequence[str],
    rows: int = 0,
    refreshed: int = 0,
    call: Call = here,
) -> Staying:
    """Read from the plan and from the refreshed rows which earlier rows stay. Raises StorageReadError.

    rows, refreshed: their numbers. call: `key_shards.here` or `placement.in_task`.
    """
    values = call(_read_refreshed, 1, refreshed_parts, memory=_REFRESHED_BYTES * refreshed)
    return Staying(read_set(_done, plan_parts, SMALL_COLUMNS_ROWS, shards_for(rows), call), values)


def _done(plan_parts: Sequence[str]) -> Iterator[Keys]:
    """Yield the keys of rows that need no work."""
    for table in read_parts(plan_parts, ("row_key", "pending")):
        yield column_keys(table.column("row_key").filter(pc.invert(table.column("pending"))))


def _read_refreshed(refreshed_parts: Sequence[str]) -> Refreshed:
    refreshed = pa.concat_tables(
        [_compact(REFRESHED.empty_table()), *map(_compact, read_parts(refreshed_parts))]
    )
    refreshed = refreshed.unify_dictionaries().combine_chunks()
    images = column_keys(refreshed.column("image_key"))
    values = refreshed.drop_columns("image_key").take(pa.array(np.argsort(images)))
    return Refreshed(KeySet(images), values)


def _compact(refreshed: pa.Table) -> pa.Table:
    """Return rows of REFRESHED in types that need little memory and allow arrays above 2 GB."""
    columns = {name: refreshed.column(name) for name in refreshed.column_names}
    columns["source_uri"] = columns["source_uri"].cast(pa.large_string())
    for name in ("product_type", "input_version"):
        columns[name] = columns[name].cast(pa.large_string()).dictionary_encode()
    return pa.table(columns)


@dataclass(frozen=True)
class Kept:
    """Rows of an earlier run. rows: those that stay. new, gone: those that a consumer sees as new and as gone, which
    includes both sides of a row whose image was read and is unchanged, if the catalog's values changed.
    """

    rows: pa.Table
    new: pa.Table
    gone: pa.Table


def keep(
    rows: pa.Table, superseded: KeySet | KeyShards, staying: Staying, retry_failed: tuple[str, ...] = ()
) -> Kept:
    """Sort the rows of an earlier run into those that stay, with new values if their image was read and is unchanged,
    and those that go.
    """
    current = ~is_tried_again(rows, retry_failed)
    if len(superseded):
        current &= ~superseded.has(id_keys(rows.column("image_id").to_pylist()))
    same = current & _in(rows.column("row_key"), staying.rows)
    values = fetched(staying.refreshed)
    changed = current & ~same & _in(rows.column("image_key"), values.images)
    before = rows.filter(pa.array(changed))
    refreshed = _refresh(before, values)
    moved = pa.array(~equal_rows(before, refreshed, ("source_uri", "product_type")))
    gone = pa.concat_tables([rows.filter(pa.array(~same & ~changed)), before.filter(moved)])
    return Kept(pa.concat_tables([rows.filter(pa.array(same)), refreshed]), refreshed.filter(moved), gone)


def _refresh(rows: pa.Table, refreshed: Refreshed) -> pa.Table:
    positions = np.searchsorted(refreshed.images.keys, column_keys(rows.column("image_key")))
    values = refreshed.values.take(pa.array(positions))
    for name in ("row_key", "source_uri", "product_type", "input_version"):
        column = values.column(name).cast(MANIFEST.field(name).type)
        rows = rows.set_column(rows.schema.get_field_index(name), MANIFEST.field(name), column)
    return rows


def _in(column: pa.ChunkedArray, keys: KeySet | KeyShards) -> np.ndarray:
    """Return (N,): whether each value is in the set; null is not."""
    valid = np.asarray(column.is_valid())
    contained = np.zeros(len(valid), bool)
    contained[valid] = keys.has(column_keys(column))
    return contained
