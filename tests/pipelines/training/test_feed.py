"""Pixels arrive for exactly the rows that are drawn, from any position."""

import numpy as np
import pytest

from model.errors import ConfigurationError
from pipelines.training.decoding import Decoding, Order, TrainingError
from pipelines.training.feed import Batch, batches, load_here
from pipelines.training.index import Index, build_index
from pipelines.training.order import SamplingConfig, WorkerEpoch
from pipelines.training.source import TrainingSource, open_source
from tests.training_data import write_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TrainingSource:
    return open_source([str(write_dataset(tmp_path_factory.mktemp("feed") / "set"))])


@pytest.fixture(scope="module")
def index(source: TrainingSource) -> Index:
    return build_index(source.shards, source.label_map)


def first(index: Index, count: int, size: int, epoch: int = 1, taken: int = 0, config=None) -> list[Batch]:
    config = config or SamplingConfig(shuffle_rows=7)

    def epoch_of(number: int) -> WorkerEpoch:
        return WorkerEpoch(index, config, 0, number)

    stream = batches(epoch_of, lambda orders: load_here(orders, Decoding(32)), size, epoch, taken)
    found = [next(stream) for _ in range(count)]
    stream.close()
    return found


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
def test_going_on_from_a_position_gives_what_was_still_to_come(index: Index, stop: int) -> None:
    """Property of resuming: the same rows, partners, crops and pixels, across the end of an epoch."""
    whole = first(index, 20, 3)
    assert {batch.epoch for batch in whole} == {1, 2}
    epoch, taken = (whole[stop - 1].epoch, whole[stop - 1].taken) if stop else (1, 0)
    again = first(index, 20 - stop, 3, epoch, taken)
    assert [facts(batch) for batch in again] == [facts(batch) for batch in whole[stop:]]
    assert [(b.epoch, b.taken) for b in again] == [(b.epoch, b.taken) for b in whole[stop:]]


def test_the_pixels_are_those_of_the_row(source: TrainingSource, index: Index) -> None:
    decode = Decoding(32)
    for draw in first(index, 1, 8)[0].draws:
        unit = int(np.searchsorted(index.starts, draw.source.number, side="right")) - 1
        order = Order(
            index.files[index.units[unit, 0]],
            int(index.units[unit, 1]),
            (draw.source.number - int(index.starts[unit]),),
        )
        [(x, _)] = decode(order)
        np.testing.assert_array_equal(draw.source.source, x)


def test_a_row_may_be_ordered_twice(source: TrainingSource) -> None:
    found = list(Decoding(32)(Order(source.shards[0], 0, (0, 0, 2, 17))))
    assert len(found) == 4
    np.testing.assert_array_equal(found[0][0], found[1][0])


def test_a_batch_larger_than_an_epoch_is_an_error(index: Index) -> None:
    with pytest.raises(ConfigurationError, match="--batch-size"):
        first(index, 1, 1000)


def test_a_shard_that_has_gone_is_named() -> None:
    with pytest.raises(TrainingError, match="cannot read /nowhere/part"):
        list(Decoding(32)(Order("/nowhere/part.parquet", 0, (0,))))
