import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.shards.reading import BROKEN, Decoded, Order
from pipelines.shards.source import open_source
from pipelines.training.detector.decoding import SampleDecoding
from pipelines.training.detector.samples import SampleConfig
from tests.training_data import write_dataset

LABELS = tuple(LabelMap.default().defects)
DECODING = SampleDecoding(SampleConfig(LABELS, 32, overlay=1), seed=3)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "data", photos=6))]).shards[0]


def assert_same(one: Decoded, other: Decoded) -> None:
    assert one.defects == other.defects
    for a, b in zip(one[:2], other[:2], strict=True):
        np.testing.assert_array_equal(a, b)  # type: ignore[arg-type]


def test_drawn_defects_depend_on_the_id_the_epoch_and_the_seed(shard: str) -> None:
    together = list(DECODING(Order(shard, 0, (0, 1, 1, 4), epoch=2)))
    assert_same(together[1], together[2])
    assert_same(together[3], next(iter(DECODING(Order(shard, 0, (4,), epoch=2)))))
    rows = tuple(range(12))
    first, again, later = (list(DECODING(Order(shard, 0, rows, epoch))) for epoch in (1, 1, 2))
    other = list(SampleDecoding(DECODING.samples, seed=4)(Order(shard, 0, rows, 1)))
    for one, same in zip(first, again, strict=True):
        assert_same(one, same)
    for others in (later, other):
        assert [row.defects for row in others] != [row.defects for row in first]
    assert all(image is None or image.shape == (32, 32, 3) for row in first for image in row[:2])
    defects = pq.read_table(shard, columns=["defect"])["defect"].to_pylist()
    for row, defect in zip(first, defects, strict=False):
        assert row.defects[0][0] == defect
        assert len(set(row.defects[0])) == 2  # and the one that was drawn over it
        assert len(row.defects[1]) == 1
        assert {*row.defects[0], *row.defects[1]} <= {*LABELS}


def test_the_drawn_defects_travel_from_tasks(shard: str) -> None:
    from pipelines.training.feed.on_ray import decode_orders, unpack

    order = Order(shard, 0, (0, 1, 2), epoch=5)
    text = pa.table({"item": [json.dumps(vars(order))]})
    decoded = [row for table in decode_orders(text, DECODING) for row in unpack(table)]
    for one, other in zip(decoded, DECODING(order), strict=True):
        assert_same(one, other)


def test_a_row_that_cannot_be_decoded_is_broken(shard: str, tmp_path: Path) -> None:
    rows = pq.read_table(shard).to_pylist()[:2]
    rows[0]["target"] = b"junk"
    pq.write_table(pa.Table.from_pylist(rows, SHARD), tmp_path / "a.parquet")
    decoded = list(DECODING(Order(str(tmp_path / "a.parquet"), 0, (0, 0, 1))))
    assert decoded[:2] == [BROKEN, BROKEN]
    assert decoded[2].source is not None
