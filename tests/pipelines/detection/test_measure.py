from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from model.detector import Detector, DetectorConfig
from model.errors import ConfigurationError
from pipelines.detection.measure import (
    chosen_rows,
    held_back_rows,
    hold_out,
    kind,
    measure,
    measured_samples,
)
from pipelines.detection.samples import SampleConfig
from pipelines.label_map import LabelMap
from pipelines.training.index import PAIRED, Index, build_index
from pipelines.training.source import open_source
from tests.training_data import write_dataset

LABELS = tuple(LabelMap.default().defects)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    source = open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "data", photos=40))])
    return build_index(source.shards, source.label_map)


def ids(index: Index) -> np.ndarray:
    return np.concatenate(
        [pq.read_table(file)["image_id"].to_numpy(zero_copy_only=False) for file in index.files]
    )


def test_calibration_takes_whole_photos_of_the_training_split(index: Index) -> None:
    training, held = hold_out(index)
    names = ids(index)
    assert 0 < held.sum() < index.training.sum() / 3
    assert not {*names[held]} & {*names[training.training]}
    assert not (held & held_back_rows(index)).any()
    np.testing.assert_array_equal(training.training | held, index.training)
    np.testing.assert_array_equal(held_back_rows(training), held_back_rows(index))


@pytest.mark.parametrize(("products", "kept"), [(200, True), (8, False)])
def test_photos_of_a_product_are_on_one_side_unless_products_are_few(
    products: int, kept: bool, tmp_path: Path, index: Index
) -> None:
    names = [f"shop/{product}/{photo}" for product in range(products) for photo in range(4)]
    names += [f"all/{photo}" for photo in range(100)]  # no product, but a folder
    pq.write_table(pa.table({"image_id": names}), tmp_path / "a.parquet")
    types = np.zeros(len(names), np.int16)
    kinds = np.full(len(names), PAIRED, index.kinds.dtype)
    found = replace(index, files=(str(tmp_path / "a.parquet"),), types=types, kinds=kinds)
    held = hold_out(found)[1]
    sides = held[: 4 * products].reshape(products, 4)
    assert 0 < sides.sum() < 2 * products
    assert bool((sides.all(1) == sides.any(1)).all()) == kept
    assert 0 < held[4 * products :].sum() < 30


def test_a_shard_that_is_gone_is_named(index: Index) -> None:
    with pytest.raises(ConfigurationError, match=r"^--data: cannot read .*gone\.parquet"):
        hold_out(replace(index, files=("gone.parquet",)))


def test_a_detector_is_measured_on_sources_overlaid_sources_and_each_target_once(index: Index) -> None:
    numbers = chosen_rows(index, held_back_rows(index), LabelMap.default(), 1000)
    found = list(measured_samples(index, numbers, SampleConfig(LABELS, 32)))
    names = ids(index)[numbers]
    kinds = [kind(sample, LABELS) for sample in found]
    assert kinds.count("clean") == len(set(names))
    assert kinds.count("watermark") == len(set(names))
    assert {one for one in kinds if "+" in one} >= {"watermark + wrong_angle", "wrong_angle + watermark"}
    torch.manual_seed(0)
    detector = Detector(DetectorConfig(LABELS))
    measured = measure(detector, iter(found))
    assert measured.logits.shape == (len(found), len(LABELS))
    assert detector.training
    scores = measured.scores(LABELS, measured.calibrations(0.8))
    assert scores["labels"]["watermark"]["positives"] == sum("watermark" in one for one in kinds)
    assert scores["images"]["clean"]["images"] == len(set(names))


def test_few_rows_stand_for_many(index: Index) -> None:
    numbers = chosen_rows(index, index.training, LabelMap.default(), 8)
    assert [int((index.types[numbers] == defect).sum()) for defect in range(3)] == [8, 8, 8]
    assert (np.diff(numbers) > 0).all()


def test_nothing_to_measure_is_no_error(index: Index) -> None:
    empty = replace(index, types=np.full_like(index.types, -1))
    numbers = chosen_rows(empty, held_back_rows(empty), LabelMap.default(), 8)
    measured = measure(
        Detector(DetectorConfig(LABELS)), measured_samples(empty, numbers, SampleConfig(LABELS, 32))
    )
    scores = measured.scores(LABELS, measured.calibrations(0.8))
    assert scores["labels"]["watermark"]["average_precision"] is None
