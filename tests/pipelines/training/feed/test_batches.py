"""Batches get the pixels of exactly the rows that are drawn, from any position."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines.contracts.schemas import SHARD
from pipelines.shards.index import PAIRED, Index, build_index
from pipelines.shards.reading import Decoding, Order, TrainingError
from pipelines.shards.source import TrainingSource, open_source
from pipelines.training.feed.batches import Batch, batches, load_here
from pipelines.training.feed.order import Row, SamplingConfig, WorkerEpoch
from tests.training_data import write_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TrainingSource:
    return open_source([str(write_dataset(tmp_path_factory.mktemp("feed") / "set"))])


@pytest.fixture(scope="module")
def index(source: TrainingSource) -> Index:
    return build_index(source.shards, source.label_map, 0)


def broken_index(folder: Path, broken: dict[int, str]) -> Index:
    """Return the index of the tiny dataset with these rows' source or target damaged in each shard.

    Rows 0 to 7 must stay whole: they are decoded as a check before.
    """
    data = open_source([str(write_dataset(folder / "set"))])
    for shard in data.shards:
        rows = pq.read_table(shard).to_pylist()
        for position, side in broken.items():
            rows[position][side] = rows[position][side][:60]
        pq.write_table(pa.Table.from_pylist(rows, SHARD), shard, row_group_size=8)
    return build_index(data.shards, data.label_map, 0)


def first(index: Index, count: int, size: int, epoch: int = 1, taken: int = 0, config=None) -> list[Batch]:
    config = config or SamplingConfig(shuffle_rows=7)

    def epoch_of(number: int) -> WorkerEpoch:
        return WorkerEpoch(index, config, 0, number)

    stream = batches(epoch_of, lambda orders: load_here(orders, Decoding(32)), size, epoch, taken)
    result = [next(stream) for _ in range(count)]
    stream.close()
    return result


def facts(batch: Batch) -> list[tuple]:
    return [
        (
            d.source.number,
            d.target.number,
            d.paired,
            d.chance.tolist(),
            d.source.source.sum(),
            d.target.target.sum(),
        )
        for d in batch.draws
    ]


@pytest.mark.parametrize("stop", [0, 1, 4, 11, 12, 15])
def test_resuming_at_a_position_gives_the_remaining_batches(index: Index, stop: int) -> None:
    """Property of resuming: the same rows, partners, crops and pixels, across the end of an epoch."""
    whole = first(index, 20, 3)
    assert {batch.epoch for batch in whole} == {1, 2}
    epoch, taken = (whole[stop - 1].epoch, whole[stop - 1].taken) if stop else (1, 0)
    again = first(index, 20 - stop, 3, epoch, taken)
    assert [facts(batch) for batch in again] == [facts(batch) for batch in whole[stop:]]
    assert [(b.epoch, b.taken) for b in again] == [(b.epoch, b.taken) for b in whole[stop:]]


BROKEN = {12: "source", 13: "target", 15: "source", 19: "source"}
CONFIGS = [
    SamplingConfig(shuffle_rows=7),
    SamplingConfig(shuffle_rows=1),  # the window has no row that could replace another
    SamplingConfig(shuffle_rows=5, pairs=False),
]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return broken_index(tmp_path_factory.mktemp("damaged"), BROKEN)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_row_that_cannot_be_decoded_is_replaced_and_others_are_not(
    damaged: Index, config: SamplingConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipelines.training.feed.batches.TOLERATED", 1.0)
    drawn = [draw for batch in first(damaged, 60, 1, config=config) for draw in batch.draws]
    intended, epoch = [], 1
    while len(intended) < 60:  # the draws if all rows could be decoded
        order = WorkerEpoch(damaged, config, 0, epoch)
        intended += list(
            order.draws(Row(int(n), int(damaged.types[n])) for p in order.parts() for n in p.rows)
        )
        epoch += 1
    bad = {shard + position for shard in (0, 24) for position in BROKEN}
    replaced = 0
    for got, meant in zip(drawn, intended, strict=False):
        assert got.source.source is not None
        assert got.target.target is not None
        assert got.source.type == got.target.type
        assert not {got.source.number, got.target.number} & bad
        assert got.paired == (config.pairs and bool(damaged.kinds[got.source.number] & PAIRED))
        if {meant.source.number, meant.target.number} & bad:
            replaced += 1
        else:
            assert (got.source.number, got.target.number) == (meant.source.number, meant.target.number)
            np.testing.assert_array_equal(got.chance, meant.chance)
    assert replaced > 3
    warnings = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(warnings) == len(set(warnings)) > 3
    assert any(
        "source of p5 (non_white_background)" in line and "part-0.parquet: truncated" in line
        for line in warnings
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_resuming_makes_the_same_replacements(
    damaged: Index, config: SamplingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.training.feed.batches.TOLERATED", 1.0)
    whole = first(damaged, 20, 3, config=config)
    for stop in (2, 5, 9, 11, 14):
        again = first(damaged, 20 - stop, 3, whole[stop - 1].epoch, whole[stop - 1].taken, config)
        assert [facts(batch) for batch in again] == [facts(batch) for batch in whole[stop:]]


def test_too_many_rows_that_cannot_be_decoded_end_the_training(tmp_path: Path) -> None:
    index = broken_index(tmp_path, dict.fromkeys(range(8, 24), "source"))
    with pytest.raises(
        TrainingError, match=r"11 of the last \d+ rows .* source of p\d+ .*: truncated: .*again"
    ):
        first(index, 12, 3)


@pytest.mark.parametrize("taken", [13, 50])
def test_a_position_after_the_end_of_an_epoch_continues_with_the_next(
    index: Index, taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The epoch became shorter, because data or workers changed before --resume."""
    [batch] = first(index, 1, 3, 4, taken)
    assert (batch.epoch, batch.taken) == (5, 1)
    assert facts(batch) == facts(first(index, 1, 3, 5)[0])
    assert [r.getMessage() for r in caplog.records if "epoch" in r.getMessage()] == [
        f"epoch 4 now has 12 batches, and {taken} were taken: continuing with epoch 5"
    ]


def test_the_pixels_are_those_of_the_row(source: TrainingSource, index: Index) -> None:
    decode = Decoding(32)
    for draw in first(index, 1, 8)[0].draws:
        unit = int(np.searchsorted(index.starts, draw.source.number, side="right")) - 1
        order = Order(
            index.files[index.units[unit, 0]],
            int(index.units[unit, 1]),
            (draw.source.number - int(index.starts[unit]),),
        )
        [decoded] = decode(order)
        np.testing.assert_array_equal(draw.source.source, decoded.source)


def test_a_row_may_be_ordered_twice(source: TrainingSource) -> None:
    rows = list(Decoding(32)(Order(source.shards[0], 0, (0, 0, 2, 17))))
    assert len(rows) == 4
    np.testing.assert_array_equal(rows[0][0], rows[1][0])


def test_a_batch_larger_than_an_epoch_is_an_error(index: Index) -> None:
    with pytest.raises(ConfigurationError, match="--batch-size"):
        first(index, 1, 1000)


def test_a_missing_shard_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.shards.reading.RETRY_AFTER", (0.0,))
    with pytest.raises(TrainingError, match="cannot read /nowhere/part"):
        list(Decoding(32)(Order("/nowhere/part.parquet", 0, (0,))))
