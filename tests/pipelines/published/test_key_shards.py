"""Sets of keys in shards are the same sets, whoever has built them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cluster.placement import fetched, in_task
from pipelines.published import key_shards
from pipelines.published.key_shards import Call, KeyShards, divided, file_groups, here, read_set, sorted_keys
from pipelines.published.row_keys import Keys, KeySet, id_keys

IDS = st.lists(st.text(max_size=2), max_size=20)


def built(tasks: Sequence[Keys], shards: int, call: Call = here, *more: KeyShards) -> KeyShards:
    """Return the set of all tasks' keys."""
    read = [divided([keys], shards) for keys in tasks]
    return sorted_keys(read, sum(map(len, tasks)), call, *more)


@given(st.lists(IDS, max_size=4), st.lists(IDS, max_size=2), IDS, st.integers(1, 5))
def test_shards_have_what_one_set_has(
    tasks: list[list[str]], later: list[list[str]], asked: list[str], shards: int
) -> None:
    keys, more = ([id_keys(ids) for ids in one] for one in (tasks, later))
    found = built(keys, shards, here, built(more, shards))
    whole = KeySet(np.concatenate([KeySet().keys, *keys, *more]))
    wanted = id_keys([*asked, *(name for ids in tasks for name in ids)])
    assert len(found) == len(whole)
    assert found.copies(wanted).tolist() == whole.copies(wanted).tolist()
    assert found.has(wanted).tolist() == whole.has(wanted).tolist()


@pytest.mark.parametrize(("rows", "each"), [(100_000, 20), (500, 1000), (0, 1000), (9_000_000, 1)])
def test_a_task_reads_files_of_about_two_million_rows(rows: int, each: int) -> None:
    files = [str(number) for number in range(2001)]
    groups = list(file_groups(files, rows))
    assert [file for group in groups for file in group] == files
    assert max(map(len, groups)) == each


def _arrays(files: Sequence[str]) -> Iterator[Keys]:
    yield from map(np.load, files)


@pytest.mark.ray
def test_tasks_build_the_same_set(ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_shards, "READ_BYTES", 1 << 60)  # more than any machine has
    keys = [id_keys(f"{task} {number}" for number in range(50)) for task in range(3)]
    files = []
    for number, one in enumerate(keys):
        files.append(str(tmp_path / f"{number}.npy"))
        np.save(files[-1], one)
    found = read_set(_arrays, files, key_shards.TASK_ROWS, 4, in_task)  # a task for each file
    assert len(found) == 150
    assert found.has(np.concatenate(keys)).all()
    assert not found.has(id_keys(["other"])).any()
    assert [fetched(shard).keys.tolist() for shard in found.shards] == [
        shard.keys.tolist() for shard in built(keys, 4).shards
    ]


def test_more_keys_are_more_shards() -> None:
    assert [key_shards.shards_for(rows) for rows in (0, 1_000_000, 100_000_000)] == [1, 1, 6]
