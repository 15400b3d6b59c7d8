"""The inspection of one unit: findings, sizes, and the hashes of every row."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.checking.hashes import NO_HASH
from pipelines.checking.inspect_unit import (
    IS_NEITHER,
    IS_TEST,
    IS_TRAIN,
    Rows,
    from_table,
    inspect_units,
    work,
)
from pipelines.checking.tally import Tally
from pipelines.contracts.label_map import LabelMap
from pipelines.shards.source import list_shards
from tests.checking_data import faulty, healthy, write


def inspect(folder: Path) -> tuple[Tally, Rows]:
    (unit,) = list_shards([str(folder / "shards" / "part-0.parquet")])
    ((number, tally, rows),) = (
        inspected
        for table in inspect_units(work(7, unit), LabelMap.default())
        for inspected in from_table(table)
    )
    assert number == 7
    return tally, rows


@pytest.fixture
def faults(tmp_path: Path) -> tuple[Tally, Rows]:
    return inspect(write(tmp_path, faulty()))


def test_every_fault_is_counted_and_named(faults: tuple[Tally, Rows]) -> None:
    tally, _ = faults
    named = {
        key[1]: [one.image_id for one in tally.examples[key[1]]]
        for key in tally.counts
        if key[0] == "finding"
    }
    assert named == {
        "unreadable": ["broken"],
        "unknown_defect": ["blurred"],
        "wrong_group": ["group"],
        "missing_image": ["lacks"],
        "unknown_pairing": ["pairing"],
        "no_image_id": [""],
        "unknown_split": ["split"],
        "identical_pair": ["same"],
        "different_size": ["aspect"],
        "different_aspect": ["aspect"],
    }
    (example,) = tally.examples["unreadable"]
    assert (example.row, example.defect) == (0, "watermark")
    assert example.text.startswith("source: truncated: ")
    assert tally.counts["unreadable", "truncated"] == 1


def test_a_row_keeps_its_position_its_side_and_its_hashes(faults: tuple[Tally, Rows]) -> None:
    _, rows = faults
    assert rows.splits.tolist() == [IS_TRAIN] * 6 + [IS_NEITHER] + [IS_TRAIN] * 4
    assert rows.looks[0] == NO_HASH  # broken
    assert rows.contents[0] != 0
    assert rows.looks[7] == NO_HASH  # lacks' target
    assert rows.contents[7] == 0
    assert rows.ids[9] == rows.ids[10]  # twice
    assert len(np.unique(rows.ids)) == 10
    assert np.count_nonzero(rows.looks) == 20


def test_healthy_rows_are_counted_by_their_kind(tmp_path: Path) -> None:
    tally, rows = inspect(write(tmp_path, healthy()))
    assert not [key for key in tally.counts if key[0] == "finding"]
    assert tally.counts["rows", "train", "watermark", "paired"] == 4
    assert tally.counts["rows", "test", "watermark", "paired"] == 2
    assert tally.counts["products", "box", "watermark", "test"] == 2
    assert tally.counts["size", "source", "1"] == 6  # 96 pixels
    assert tally.counts["aspect", "target", "3"] == 6  # 4:5
    assert rows.splits.tolist() == [IS_TRAIN, IS_TRAIN, IS_TEST] * 2
    assert len(tally.samples["watermark"]) == 6
