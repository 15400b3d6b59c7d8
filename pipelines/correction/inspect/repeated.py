"""Finds ids that occur more than once in a catalog, and decides whether their rows count as one row or fail.

The rows of an id count as one if they mean the same and are of one image: all of them state one `sha256`, or all are
read from one `uri`. The uri of a row that holds image bytes is not read, so it says nothing about the image. (Image
bytes are read here only from row groups whose footers do not show which rows hold any.) Ids are found by sorting their
keys in tasks, each of which takes a part of all ids.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.errors import RunError
from pipelines.correction.catalog import hold_bytes
from pipelines.published.parts import read_part
from pipelines.published.row_keys import (
    NO_KEY,
    NUMPY_KEY,
    Keys,
    KeySet,
    column_keys,
    id_buckets,
    key_of,
    keys_or_zero,
    to_keys,
)

#: Ids that one task sorts: about 40 bytes of memory for each.
SHARD_ROWS = 20_000_000
#: If more ids than these have rows of different images, the column does not hold ids.
MOST_REFUSED = 1_000_000

DUPLICATE_ID = "duplicate_id"

#: Columns of `pending.PLAN` that are compared.
_COMPARED = ("id_key", "row_key", "uri_key", "sha256_key")
_ROWS = np.dtype([*((name, NUMPY_KEY) for name in _COMPARED), ("plan", np.int32), ("row", np.int64)])
#: A repeated id. row_key: for all its rows, see `RepeatedRow`. plan, row: of its first row.
_IDS = np.dtype(
    [
        ("id_key", NUMPY_KEY),
        ("row_key", NUMPY_KEY),
        ("rows", np.int64),
        ("is_one", np.bool_),
        ("plan", np.int32),
        ("row", np.int64),
    ]
)


class RepeatedRow(NamedTuple):
    """Describe a row of an id that occurs more than once.

    row_key: replaces the row's own key. It is the same for all rows of the id, and changes if any of them changes, is
    added or is removed. None if one of them has no key. rows: number of rows of the id. is_one: these rows count as
    one. is_first: the row is the first of them.
    """

    row_key: bytes | None
    rows: int
    is_one: bool
    is_first: bool


@dataclass(frozen=True)
class Repeated:
    """List all repeated ids, in the order of their keys. plans: URIs of plan files. affected: those with such rows."""

    ids: NDArray[Any] = field(default_factory=lambda: np.empty(0, _IDS))
    plans: tuple[str, ...] = ()
    affected: frozenset[str] = frozenset()

    @property
    def refused(self) -> int:
        """Number of ids whose rows fail."""
        return int((~self.ids["is_one"]).sum())

    def among(self, ids: Keys, plan: str) -> Iterator[tuple[int, RepeatedRow]]:
        """Yield the rows of a plan file that have a repeated id, each with its number. ids: of all rows of the file."""
        if plan not in self.affected:
            return
        number = self.plans.index(plan)
        known = KeySet(self.ids["id_key"])
        rows = np.flatnonzero(known.has(ids))
        for row, one in zip(rows.tolist(), self.ids[np.searchsorted(known.keys, ids[rows])], strict=True):
            padded = one["row_key"].ljust(len(NO_KEY), b"\0")  # NumPy strips zeros
            key = None if padded == NO_KEY else padded
            is_first = bool(one["plan"] == number and one["row"] == row)
            yield row, RepeatedRow(key, int(one["rows"]), bool(one["is_one"]), is_first)


def find_repeated(plans: Sequence[str], shard: int = 0, shards: int = 1) -> Repeated:
    """Return the repeated ids of one shard of all ids, from files of `pending.PLAN`. Raises StorageReadError."""
    ids = [
        _sharded(column_keys(read_part(plan, ("id_key",)).column("id_key")), shard, shards) for plan in plans
    ]
    unique, counts = np.unique(np.concatenate([KeySet().keys, *ids]), return_counts=True)
    repeated = KeySet(unique[counts > 1])
    affected = [number for number, keys in enumerate(ids) if repeated.has(keys).any()]
    if not affected:
        return Repeated(plans=tuple(plans))
    rows = np.concatenate([_rows_of(repeated, plans[number], number) for number in affected])
    return Repeated(_judge(rows), tuple(plans), frozenset(plans[number] for number in affected))


def merge_repeated(shards: Sequence[Repeated]) -> Repeated:
    """Return the repeated ids of all shards. Raises RunError if too many of them have different images."""
    ids = np.sort(np.concatenate([shard.ids for shard in shards]), order="id_key")
    merged = Repeated(ids, shards[0].plans, frozenset().union(*(shard.affected for shard in shards)))
    if merged.refused > MOST_REFUSED:
        raise RunError(
            f"--catalog: {merged.refused} values of image_id occur more than once, with different images or "
            "meanings; check that this column holds ids"
        )
    return merged


def with_location(plan: pa.Table, uri: str, first: int) -> pa.Table:
    """Return a plan with the location of its rows: those of the file `uri` from number `first` on."""
    return plan.replace_schema_metadata({"uri": uri, "first": str(first)})


def location_of(schema: pa.Schema) -> tuple[str, int]:
    """Return the file and the number of the first row that `with_location` has stored."""
    return schema.metadata[b"uri"].decode(), int(schema.metadata[b"first"])


def refusal(rows: int, position: str) -> str:
    """Return the message of a row that fails because its id has `rows` rows which do not count as one."""
    return (
        f"the id occurs {rows} times, here in {position} (counted from 0), and its rows differ in image (sha256, or "
        "uri if no row has image bytes), product type or meaning of labels; give each image its own id"
    )


def _rows_of(repeated: KeySet, plan: str, number: int) -> NDArray[Any]:
    """Return the rows of a plan file that have a repeated id. number: of the file, for the result."""
    table = read_part(plan, _COMPARED)
    chosen = repeated.has(column_keys(table.column("id_key")))
    rows = np.zeros(int(chosen.sum()), _ROWS)
    for name in _COMPARED:
        rows[name] = keys_or_zero(table.column(name).filter(pa.array(chosen)))
    rows["plan"], rows["row"] = number, np.flatnonzero(chosen)
    uri, first = location_of(table.schema)
    named = np.flatnonzero(rows["uri_key"] != b"")
    held = hold_bytes(uri, first + rows["row"][named])
    rows["uri_key"][named[held]] = NO_KEY
    return rows


def _judge(rows: NDArray[Any]) -> NDArray[Any]:
    """Return an element of _IDS for each id of `rows`."""
    rows = rows[np.argsort(rows["id_key"], kind="stable")]
    starts = np.flatnonzero(np.r_[True, rows["id_key"][1:] != rows["id_key"][:-1]])
    counts = np.diff(np.r_[starts, len(rows)])
    ids = np.zeros(len(starts), _IDS)
    for name in ("id_key", "plan", "row"):
        ids[name] = rows[name][starts]
    ids["rows"] = counts
    one_uri, one_hash = (_all_same(rows[name], starts, counts) for name in ("uri_key", "sha256_key"))
    ids["is_one"] = one_uri | one_hash
    groups = np.split(rows["row_key"], starts[1:])
    ids["row_key"] = to_keys(
        [_key_of_all(keys, one) for keys, one in zip(groups, ids["is_one"], strict=True)]
    )
    return ids


def _all_same(keys: Keys, starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each group whether all its rows have a key, and the same one."""
    same = (keys == np.repeat(keys[starts], counts)) & (keys != b"")
    return np.asarray(np.logical_and.reduceat(same, starts))


def _key_of_all(keys: Keys, is_one: bool) -> bytes:
    """Return the key for `RepeatedRow.row_key`; NO_KEY if a row has none."""
    if (keys == b"").any():
        return NO_KEY
    return key_of("one" if is_one else "refused", *(key.hex() for key in np.sort(keys).tolist()))


def _sharded(keys: Keys, shard: int, shards: int) -> Keys:
    return keys if shards == 1 else keys[id_buckets(keys) % shards == shard]
