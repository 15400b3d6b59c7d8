"""The validation part: which photos it has, and that they stay in it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contracts.hashing import hash_number
from pipelines.shards.index import TARGET, TEST, VALIDATION, build_index
from pipelines.shards.source import open_source
from pipelines.shards.validation_part import LEAST_PRODUCTS, PRODUCT_ROWS, hash_ids, held_back
from pipelines.training.feed.order import SamplingConfig, WorkerEpoch
from tests.training_data import write_dataset

IDS = st.lists(st.text("abc/01", max_size=6), min_size=1, max_size=24)  # too few to hold products
SHARES = st.floats(0, 0.5)


def part(ids: list[str], share: float) -> np.ndarray:
    return held_back(*hash_ids(pa.chunked_array([ids], pa.string())), share)


@given(IDS, IDS, SHARES)
def test_a_photo_stays_on_its_side_as_data_grow_in_any_order(
    before: list[str], more: list[str], share: float
) -> None:
    grown = [*more, *before]
    np.testing.assert_array_equal(part(before, share), part(grown, share)[len(more) :])
    np.testing.assert_array_equal(part(grown[::-1], share)[::-1], part(grown, share))


@given(IDS, SHARES, SHARES)
def test_a_larger_share_includes_all_photos_of_a_smaller_one(
    ids: list[str], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert not (part(ids, low) & ~part(ids, high)).any()
    assert not part(ids, 0).any()


def test_the_share_is_met_for_any_split_and_chunks() -> None:
    ids = [f"photo-{n}" for n in range(10_000)]
    chunks = pa.chunked_array([ids[:3], [], ids[3:]], pa.string())
    held = held_back(*hash_ids(chunks), 0.05)
    assert abs(held.mean() - 0.05) < 0.01
    tested = np.array([hash_number("split", name) < 0.2 * 2**256 for name in ids])
    assert abs(held[tested].mean() - held[~tested].mean()) < 0.02


@pytest.mark.parametrize(("products", "kept"), [(4 * LEAST_PRODUCTS, True), (LEAST_PRODUCTS - 1, False)])
def test_photos_of_a_product_are_on_one_side_unless_products_are_few(products: int, kept: bool) -> None:
    names = [f"shop/{product}/{photo}" for product in range(products) for photo in range(4)]
    names += [f"all/{photo}" for photo in range(PRODUCT_ROWS + 36)]  # too many rows for a product
    held = part(names, 0.1)
    sides = held[: 4 * products].reshape(products, 4)
    assert 0 < sides.sum() < 2 * products
    assert bool((sides.all(1) == sides.any(1)).all()) == kept
    assert 0 < held[4 * products :].sum() < 30


def test_the_index_holds_whole_photos_of_the_training_split_back(tmp_path: Path) -> None:
    source = open_source([str(write_dataset(tmp_path / "set", photos=40))])
    index = build_index(source.shards, source.label_map, 0.25)
    rows = index.of_split(VALIDATION)
    photos = np.repeat(np.arange(40), 3)  # three defects each
    assert 0 < rows.sum() < index.training.sum()
    assert not {*photos[rows]} & {*photos[index.training]}
    assert not (rows & index.of_split(TEST)).any()
    whole = build_index(source.shards, source.label_map, 0)
    np.testing.assert_array_equal(rows | index.training, whole.training)
    np.testing.assert_array_equal(index.of_split(TEST), whole.of_split(TEST))


def test_an_epoch_reads_nothing_that_is_held_back(tmp_path: Path) -> None:
    """Neither as a sample nor as the partner of an unpaired sample."""
    source = open_source([str(write_dataset(tmp_path / "set", photos=40))])
    index = build_index(source.shards, source.label_map, 0.25)
    for config in (SamplingConfig(), SamplingConfig(pairs=False), SamplingConfig(sampler="balanced")):
        read = {int(row) for one in WorkerEpoch(index, config, 0, 1).parts() for row in one.rows}
        assert read <= {*np.flatnonzero(index.training).tolist()}
        assert len(read) == index.training.sum()
    assert index.having(0, TARGET, VALIDATION).any()
