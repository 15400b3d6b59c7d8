"""Ids that occur more than once in a catalog. Rows that name one image and mean the same are one row; all others fail.

Found by sorting the ids' keys in tasks, each of which takes a part of all ids. No image is read for it: rows are of
one image where all of them name one `uri`, or one `sha256`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.errors import RunError
from pipelines.correction.inspect.known import read_part
from pipelines.correction.row_keys import (
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

#: Ids that one task sorts: some 40 bytes of memory each.
SHARD_ROWS = 20_000_000
#: With more ids of different images than these, they are no ids.
MOST_REFUSED = 1_000_000

DUPLICATE_ID = "duplicate_id"

#: Columns of PLAN that are compared; see there.
_COMPARED = ("id_key", "row_key", "uri_key", "sha256_key")
_ROWS = np.dtype([*((name, NUMPY_KEY) for name in _COMPARED), ("plan", np.int32), ("row", np.int64)])
#: A repeated id. row_key: of all its rows, see `RepeatedRow`; plan, row: where the first of them is.
_IDS = np.dtype(
    [
        ("id_key", NUMPY_KEY),
        ("row_key", NUMPY_KEY),
        ("rows", np.int64),
        ("is_one", np.bool_),
        ("by_uri", np.bool_),
        ("plan", np.int32),
        ("row", np.int64),
    ]
)


class RepeatedRow(NamedTuple):
    """A row of an id that occurs more than once.

    row_key: replaces its own: it is the same for all rows of the id, and another one as soon as any of them changes,
    comes or goes. None where one of them has no key. rows: of the id. is_one: they are one row; by_uri: by that alone;
    is_first: it is the first.
    """

    row_key: bytes | None
    rows: int
    is_one: bool
    by_uri: bool
    is_first: bool


@dataclass(frozen=True)
class Repeated:
    """All repeated ids, in the order of their keys. plans: URIs of plan files; affected: those that have such rows."""

    ids: NDArray[Any] = field(default_factory=lambda: np.empty(0, _IDS))
    plans: tuple[str, ...] = ()
    affected: frozenset[str] = frozenset()

    @property
    def refused(self) -> int:
        """How many ids have rows that fail."""
        return int((~self.ids["is_one"]).sum())

    def among(self, ids: Keys, plan: str) -> Iterator[tuple[int, RepeatedRow]]:
        """Those of a plan file's rows, whose `ids` are given, that repeat an id: their numbers, and what is known."""
        if plan not in self.affected:
            return
        number = self.plans.index(plan)
        known = KeySet(self.ids["id_key"])
        there = np.flatnonzero(known.has(ids))
        for row, one in zip(there.tolist(), self.ids[np.searchsorted(known.keys, ids[there])], strict=True):
            key = one["row_key"].ljust(len(NO_KEY), b"\0")  # NumPy strips zeros
            is_first = bool(one["plan"] == number and one["row"] == row)
            verdict = (int(one["rows"]), bool(one["is_one"]), bool(one["by_uri"]), is_first)
            yield row, RepeatedRow(None if key == NO_KEY else key, *verdict)


def find_repeated(plans: Sequence[str], shard: int = 0, shards: int = 1) -> Repeated:
    """The repeated ids of one shard, from files of `pending.PLAN`. Raises StorageReadError."""
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
    """Repeated ids of all shards. Raises RunError where too many of them have different images."""
    ids = np.sort(np.concatenate([shard.ids for shard in shards]), order="id_key")
    merged = Repeated(ids, shards[0].plans, frozenset().union(*(shard.affected for shard in shards)))
    if merged.refused > MOST_REFUSED:
        raise RunError(
            f"--catalog: {merged.refused} values of image_id occur more than once, with different images or "
            "meanings: is it the right column?"
        )
    return merged


def refusal(rows: int, place: str) -> str:
    """Message of a row that fails because its id has `rows` rows which are not one."""
    return (
        f"the id occurs {rows} times, here in {place} (counted from 0), and not with one uri or one sha256, one "
        "product type and labels that mean the same; give each image its own id"
    )


def _rows_of(repeated: KeySet, plan: str, number: int) -> NDArray[Any]:
    table = read_part(plan, _COMPARED)
    chosen = repeated.has(column_keys(table.column("id_key")))
    rows = np.zeros(int(chosen.sum()), _ROWS)
    for name in _COMPARED:
        rows[name] = keys_or_zero(table.column(name).filter(pa.array(chosen)))
    rows["plan"], rows["row"] = number, np.flatnonzero(chosen)
    return rows


def _judge(rows: NDArray[Any]) -> NDArray[Any]:
    """One of _IDS for each id of `rows`."""
    rows = rows[np.argsort(rows["id_key"], kind="stable")]
    starts = np.flatnonzero(np.r_[True, rows["id_key"][1:] != rows["id_key"][:-1]])
    counts = np.diff(np.r_[starts, len(rows)])
    found = np.zeros(len(starts), _IDS)
    for name in ("id_key", "plan", "row"):
        found[name] = rows[name][starts]
    found["rows"] = counts
    one_uri, one_hash = (_all_same(rows[name], starts, counts) for name in ("uri_key", "sha256_key"))
    found["is_one"], found["by_uri"] = one_uri | one_hash, one_uri & ~one_hash
    groups = np.split(rows["row_key"], starts[1:])
    found["row_key"] = to_keys(
        [_key_of_all(keys, one) for keys, one in zip(groups, found["is_one"], strict=True)]
    )
    return found


def _all_same(keys: Keys, starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each group whether all its keys are there, and equal."""
    same = (keys == np.repeat(keys[starts], counts)) & (keys != b"")
    return np.asarray(np.logical_and.reduceat(same, starts))


def _key_of_all(keys: Keys, is_one: bool) -> bytes:
    """See `RepeatedRow.row_key`; NO_KEY where a row has none."""
    if (keys == b"").any():
        return NO_KEY
    return key_of("one" if is_one else "refused", *(key.hex() for key in np.sort(keys).tolist()))


def _sharded(keys: Keys, shard: int, shards: int) -> Keys:
    return keys if shards == 1 else keys[id_buckets(keys) % shards == shard]
