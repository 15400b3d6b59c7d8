from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from model.detector.network import Detector, DetectorConfig
from pipelines.contracts.label_map import LabelMap
from pipelines.shards.index import TEST, Index, build_index
from pipelines.shards.source import open_source
from pipelines.training.detector.decoding import SampleDecoding
from pipelines.training.detector.measure import chosen_rows, kind, measure, measured_samples
from pipelines.training.detector.samples import SampleConfig
from tests.training_data import write_dataset

LABELS = tuple(LabelMap.default().defects)
DECODING = SampleDecoding(SampleConfig(LABELS, 32), seed=0)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    source = open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "data", photos=40))])
    return build_index(source.shards, source.label_map)


def ids(index: Index) -> np.ndarray:
    return np.concatenate(
        [pq.read_table(file)["image_id"].to_numpy(zero_copy_only=False) for file in index.files]
    )


def test_a_detector_is_measured_on_sources_overlaid_sources_and_each_target_once(index: Index) -> None:
    numbers = chosen_rows(index, TEST, LabelMap.default(), 1000)
    samples = list(measured_samples(index, numbers, DECODING))
    names = ids(index)[numbers]
    kinds = [kind(sample, LABELS) for sample in samples]
    assert kinds.count("clean") == len(set(names))
    assert kinds.count("watermark") == len(set(names))
    assert {one for one in kinds if "+" in one} >= {"watermark + wrong_angle", "wrong_angle + watermark"}
    torch.manual_seed(0)
    detector = Detector(DetectorConfig(LABELS))
    measured = measure(detector, iter(samples))
    assert measured.logits.shape == (len(samples), len(LABELS))
    assert detector.training
    scores = measured.scores(LABELS, measured.calibrations(0.8))
    assert scores["labels"]["watermark"]["positives"] == sum("watermark" in one for one in kinds)
    assert scores["images"]["clean"]["images"] == len(set(names))


def test_few_rows_represent_many(index: Index) -> None:
    numbers = chosen_rows(index, 0, LabelMap.default(), 8)
    assert [int((index.types[numbers] == defect).sum()) for defect in range(3)] == [8, 8, 8]
    assert (np.diff(numbers) > 0).all()


def test_nothing_to_measure_is_not_an_error(index: Index) -> None:
    empty = replace(index, types=np.full_like(index.types, -1))
    numbers = chosen_rows(empty, TEST, LabelMap.default(), 8)
    measured = measure(Detector(DetectorConfig(LABELS)), measured_samples(empty, numbers, DECODING))
    scores = measured.scores(LABELS, measured.calibrations(0.8))
    assert scores["labels"]["watermark"]["average_precision"] is None
