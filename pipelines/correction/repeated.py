"""Ids that occur more than once in a catalog: rows of one image agree; rows of different images cannot be told apart.

Found by sorting the ids' keys in tasks, each of which takes a part of all ids. Where something about an id's rows is
new, the images of all of them are read and compared: one image with one meaning goes on as any other, and is corrected
once; else every row of the id fails with `duplicate_id`, which names the places.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.errors import RunError
from pipelines.correction.known import fetched, read_part
from pipelines.correction.row_keys import KEY, Keys, KeySet, column_keys, id_buckets, id_keys, key_of, to_keys

#: Ids that one task sorts: some 40 bytes of memory each.
SHARD_ROWS = 20_000_000
#: With more ids of different images than these, they are no ids.
MOST_CONFLICTS = 1_000_000
#: Places that a message names.
_NAMED = 4

DUPLICATE_ID = "duplicate_id"

#: What is found of each row of an id that must be looked at. content: a hash of the image's bytes, or the code of what
#: made it unreadable, and what its labels ask for.
LOOKED = pa.schema(
    [("id_key", KEY), ("image_id", pa.string()), ("place", pa.string()), ("content", pa.string())]
)


@dataclass(frozen=True)
class Repeated:
    """Keys of ids that occur more than once. settled: all their rows are as an earlier run left them; contested: the
    others. refused: of the settled, those whose rows were refused, and how many each has. plans: which plan files have
    rows of any.
    """

    settled: KeySet = field(default_factory=KeySet)
    refused: KeySet = field(default_factory=KeySet)
    refused_rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    contested: KeySet = field(default_factory=KeySet)
    plans: tuple[str, ...] = ()

    def rows(self, ids: Keys) -> NDArray[np.int64]:
        """(len(ids),): of each id how many of its rows were refused; 0 where none were."""
        found = np.zeros(len(ids), np.int64)
        there = self.refused.has(ids)
        found[there] = self.refused_rows[np.searchsorted(self.refused.keys, ids[there])]
        return found

    def __bool__(self) -> bool:
        return bool(len(self.settled) or len(self.contested))


@dataclass(frozen=True)
class Conflicts:
    """Ids of different images: their keys, sorted, and for each how many rows it has and what to say of them."""

    ids: KeySet = field(default_factory=KeySet)
    rows: tuple[int, ...] = ()
    messages: tuple[str, ...] = ()

    def of(self, image_ids: Sequence[str]) -> list[tuple[int, str] | None]:
        """(rows, message) of each id, None where there is no conflict."""
        if not len(self.ids):
            return [None] * len(image_ids)
        keys = id_keys(image_ids)
        places = np.searchsorted(self.ids.keys, keys)
        return [
            (self.rows[place], self.messages[place]) if there else None
            for place, there in zip(places, self.ids.has(keys), strict=True)
        ]


def refused_key(row_key: bytes | None, rows: int) -> bytes | None:
    """Key of a row that was refused with others of its id: with others, or alone, it is another."""
    return None if row_key is None else key_of("refused", row_key.hex(), str(rows))


def find_repeated(plan_parts: Sequence[str], known: Any, shard: int = 0, shards: int = 1) -> Repeated:
    """The repeated ids of one shard, from files of `pending.PLAN`. Raises StorageReadError."""
    ids = [
        _sharded(column_keys(read_part(part, ("id_key",)).column("id_key")), shard, shards)
        for part in plan_parts
    ]
    unique, counts = np.unique(np.concatenate([KeySet().keys, *ids]), return_counts=True)
    repeated = KeySet(unique[counts > 1])
    plans = tuple(part for part, keys in zip(plan_parts, ids, strict=True) if repeated.has(keys).any())
    if not plans:
        return Repeated()
    rows = pa.concat_tables([_rows_of(repeated, part) for part in plans])
    keys = column_keys(rows.column("id_key"))
    group = np.searchsorted(repeated.keys, keys)
    members = np.bincount(group)
    refused = _as_refused(rows.column("row_key"), members[group])
    as_they_are = _all_of(
        group, _as_often(column_or_zero(rows.column("row_key")), rows.column("copies").to_numpy())
    )
    as_refused = _all_of(group, _as_often(refused, fetched(known).rows.copies(refused)))
    settled = as_they_are | as_refused
    return Repeated(
        KeySet(repeated.keys[settled]),
        KeySet(repeated.keys[as_refused]),
        members[as_refused],
        KeySet(repeated.keys[~settled]),
        plans,
    )


def merge_repeated(parts: Sequence[Repeated]) -> Repeated:
    """Repeated ids of all shards."""

    def together(name: str) -> KeySet:
        return KeySet(np.concatenate([KeySet().keys, *(getattr(part, name).keys for part in parts)]))

    plans = dict.fromkeys(plan for part in parts for plan in part.plans)
    refused_rows = np.concatenate([np.empty(0, np.int64), *(part.refused_rows for part in parts)])
    order = np.argsort(np.concatenate([KeySet().keys, *(part.refused.keys for part in parts)]))
    return Repeated(
        together("settled"), together("refused"), refused_rows[order], together("contested"), tuple(plans)
    )


def judge(looked_parts: Sequence[str], shard: int = 0, shards: int = 1) -> Conflicts:
    """The conflicts among one shard's rows of LOOKED files. Raises StorageReadError, and RunError for too many."""
    tables = [read_part(part) for part in looked_parts]
    rows = [row for table in tables for row in _shard_of(table, shard, shards).to_pylist()]
    rows.sort(key=lambda row: (row["id_key"], row["place"]))
    found: list[tuple[bytes, int, str]] = []
    for key, group in groupby(rows, key=lambda row: bytes(row["id_key"])):
        those = list(group)
        if len({row["content"] for row in those}) > 1:
            found.append((key, len(those), _message(those)))
        if len(found) > MOST_CONFLICTS // shards:
            raise RunError(
                f"--catalog: more than {MOST_CONFLICTS} ids have rows with different images, and {found[0][2]}"
            )
    return Conflicts(
        KeySet(to_keys([key for key, _, _ in found])),
        tuple(count for _, count, _ in found),
        tuple(message for _, _, message in found),
    )


def merge_conflicts(parts: Sequence[Conflicts]) -> Conflicts:
    """Conflicts of all shards."""
    ids = np.concatenate([KeySet().keys, *(part.ids.keys for part in parts)])
    order = np.argsort(ids)
    rows = [count for part in parts for count in part.rows]
    messages = [message for part in parts for message in part.messages]
    return Conflicts(KeySet(ids), tuple(rows[i] for i in order), tuple(messages[i] for i in order))


def _message(rows: list[dict[str, Any]]) -> str:
    places = ", ".join(row["place"] for row in rows[:_NAMED])
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return (
        f"the id occurs {len(rows)} times, with different images or labels (rows counted from 0): {places}{more}; "
        "give each image its own"
    )


def column_or_zero(column: pa.ChunkedArray) -> Keys:
    """Keys of a KEY column, zero where it is null: no row's key."""
    return to_keys([key or bytes(16) for key in column.to_pylist()])


def _rows_of(repeated: KeySet, part: str) -> pa.Table:
    table = read_part(part, ("id_key", "row_key", "copies"))
    return table.filter(pa.array(repeated.has(column_keys(table.column("id_key")))))


def _as_refused(row_keys: pa.ChunkedArray, rows: NDArray[np.int64]) -> Keys:
    pairs = zip(row_keys.to_pylist(), rows.tolist(), strict=True)
    return to_keys([refused_key(key, count) or bytes(16) for key, count in pairs])


def _as_often(keys: Keys, copies: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which keys the manifest has as often as the catalog."""
    return (KeySet(keys).copies(keys) == copies) & (keys != bytes(16))


def _all_of(group: NDArray[np.int64], fine: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For each group, whether all its members are fine."""
    return np.asarray(np.bincount(group, ~fine) == 0)


def _sharded(keys: Keys, shard: int, shards: int) -> Keys:
    return keys if shards == 1 else keys[id_buckets(keys) % shards == shard]


def _shard_of(table: pa.Table, shard: int, shards: int) -> pa.Table:
    if shards == 1:
        return table
    return table.filter(pa.array(id_buckets(column_keys(table.column("id_key"))) % shards == shard))
