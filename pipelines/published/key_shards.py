"""Large sets of keys, which tasks build: some read files and divide their keys by the keys' leading bits, others sort a
shard each.

The functions that build a set take a function to call others with: `here` in this process, or `placement.in_task`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from pipelines.cluster.placement import fetched
from pipelines.published.row_keys import ID_BUCKETS, Keys, KeySet, id_buckets

#: Most keys of a shard, about: 16 bytes each, and three times as many while they are sorted.
SHARD_KEYS = 20_000_000
#: Rows that one task reads, about, and files: on a remote storage each takes tens of milliseconds.
TASK_ROWS, TASK_FILES = 2_000_000, 1_000
#: Bytes of memory for each row that a task reads or sorts.
ROW_BYTES = 100
#: Bytes of memory for a task that reads.
READ_BYTES = ROW_BYTES * TASK_ROWS

#: Calls a function that returns a list of so many results, with these arguments; `memory` is what it needs in bytes.
#: Returns the results, or references to them in Ray's object store, which may be arguments of other calls.
Call = Callable[..., Any]


def here(function: Callable[..., Any], returns: int, *arguments: Any, memory: int = 0) -> Any:
    """Call `function` in this process."""
    return function(*arguments)


class KeyShards:
    """A multiset of keys as a `KeySet` for each shard, or a reference to it, which is fetched when it is asked.

    The shard of a key follows from its leading bits and the number of shards.
    """

    def __init__(self, shards: Sequence[Any] = (), size: int = 0) -> None:
        """Take KeySets or references to them. size: number of keys in all of them."""
        self._shards, self._size = list(shards), size

    def __len__(self) -> int:
        return self._size

    def copies(self, keys: Keys) -> NDArray[np.int64]:
        """Return (len(keys),): how often the set has each key."""
        found = np.zeros(len(keys), np.int64)
        if not self._size:
            return found
        shard_of = shards_of(keys, len(self._shards))
        for shard in np.unique(shard_of):
            wanted = shard_of == shard
            found[wanted] = self._fetch(shard).copies(keys[wanted])
        return found

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Return (len(keys),): whether the set has each key."""
        return self.copies(keys) > 0

    def wait(self) -> None:
        """Wait until the shards are there. A task that waits for them instead keeps the memory that it has requested,
        which they may need.
        """
        references = [shard for shard in self._shards if isinstance(shard, ray.ObjectRef)]
        if references:
            ray.wait(references, num_returns=len(references), fetch_local=False)

    def _fetch(self, shard: int) -> KeySet:
        self._shards[shard] = fetched(self._shards[shard])
        return self._shards[shard]

    @property
    def shards(self) -> tuple[Any, ...]:
        """The KeySets, or references to them."""
        return tuple(self._shards)


def shards_for(rows: float) -> int:
    """Return the number of shards for about `rows` keys."""
    return int(min(ID_BUCKETS, 1 + rows // SHARD_KEYS))


def shards_of(keys: Keys, shards: int) -> NDArray[np.int64]:
    """Return (len(keys),): the shard of each key."""
    return id_buckets(keys) * shards // ID_BUCKETS


def divided(keys: Sequence[Keys], shards: int) -> list[Keys]:
    """Return the keys of all arrays, an array for each shard."""
    together = np.concatenate([KeySet().keys, *keys])
    shard_of = shards_of(together, shards)
    return [together[shard_of == shard] for shard in range(shards)]


def read_set(
    read: Callable[[Sequence[str]], Iterable[Keys]],
    files: Sequence[str],
    rows: float,
    shards: int,
    call: Call,
    *more: KeyShards,
) -> KeyShards:
    """Return the set of the keys that `read` yields for files, and of `more` sets. rows: of a file, about."""
    calls = [
        call(_read_divided, 1 + shards, read, group, shards, memory=READ_BYTES)
        for group in file_groups(files, rows)
    ]
    size = sum(fetched(count) for count, *_ in calls)
    return sorted_keys([keys for _, *keys in calls], size, call, *more)


def _read_divided(
    read: Callable[[Sequence[str]], Iterable[Keys]], files: Sequence[str], shards: int
) -> list[Any]:
    """Return the number of keys, and those of each shard."""
    keys = list(read(files))
    return [sum(map(len, keys)), *divided(keys, shards)]


def sorted_keys(read: Sequence[Sequence[Any]], size: int, call: Call, *more: KeyShards) -> KeyShards:
    """Return the set of the keys of all tasks and of `more` sets.

    read: of each task, the keys of each shard, or references to them. size: their number in all. more: sets with as
    many shards.
    """
    size += sum(map(len, more))
    if not size:
        return KeyShards()
    columns = zip(*read, *(one.shards for one in more if len(one)), strict=True)
    shards = [list(column) for column in columns]
    memory = ROW_BYTES * size // len(shards)
    return KeyShards([call(_sorted, 1, *shard, memory=memory) for shard in shards], size)


def _sorted(*keys: "Keys | KeySet") -> KeySet:
    return KeySet(np.concatenate([one.keys if isinstance(one, KeySet) else one for one in keys]))


def file_groups(files: Sequence[str], rows: float) -> Iterator[list[str]]:
    """Yield the files that one task reads together. rows: of a file, about."""
    step = int(min(TASK_FILES, max(1, TASK_ROWS // max(1, rows))))
    for start in range(0, len(files), step):
        yield list(files[start : start + step])
