"""What a detector's training leaves: calibrated on one part, scored on the other, and said in a card."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.detector.network import Calibration, load_detector
from pipelines.shards.index import TEST, VALIDATION
from pipelines.training.detector.calibration import SCALES, label_scores
from pipelines.training.detector.loop import DetectorTraining
from pipelines.training.detector.measure import chosen_rows, measure, measured_samples
from pipelines.training.detector.outputs import (
    DetectorObserver,
    bound_lines,
    evaluate,
    kind_table,
    label_table,
    model_card,
    warn_of_poor,
)
from pipelines.training.records import read_table
from tests.pipelines.training.detector.builders import LABELS, plan


def test_a_label_without_meaning_is_warned_of_in_the_card(data: str, tmp_path: Path) -> None:
    calibrations = [Calibration(), Calibration(SCALES[0], -1.0, 0.2), Calibration()]
    one = plan(data, tmp_path)
    found = {
        "labels": {
            label: label_scores(np.zeros(2), np.array([True, False]), Calibration()) for label in LABELS
        }
    }
    details = {"scores": {**found, "images": {}}, "training": {}, "encoder_weights": None}
    training = DetectorTraining(one.settings, one.source.label_map)
    card = model_card(one, training, calibrations, details)
    assert "watermark: the calibration's scale is at its bound (0.001)" in card
    assert card.count("at its bound") == 1


def test_thresholds_are_chosen_on_photos_of_the_training_split_and_judged_on_the_test_split(
    data: str, tmp_path: Path
) -> None:
    one = plan(data, tmp_path, precision_target=0.7)
    training = DetectorTraining(one.settings, one.source.label_map)
    calibrations, scores = evaluate(one, training)
    detector, label_map = training.method.as_stored(), one.source.label_map
    validation, test = (
        measure(
            detector,
            measured_samples(one.index, chosen_rows(one.index, split, label_map, 100), one.settings.decoding),
        )
        for split in (VALIDATION, TEST)
    )
    assert calibrations == validation.calibrations(0.7) != test.calibrations(0.7)
    assert scores == test.scores(LABELS, calibrations)
    assert scores["images"]["clean"]["images"] == 6  # each test photo's target once


def test_what_is_measured_is_what_is_stored(data: str, tmp_path: Path) -> None:
    """The bundle gives the test split the scores that its card has."""
    one = plan(data, tmp_path, steps=2)
    training = DetectorTraining(one.settings, one.source.label_map)
    training.history = [
        {"step": 1, "total": 0.7, "watermark": 0.7},
        {"step": 2, "total": 0.6, "watermark": 0.6},
    ]
    DetectorObserver(one, lambda record: None).finish(training)
    bundle = load_detector(tmp_path / "bundle")
    numbers = chosen_rows(one.index, TEST, one.source.label_map, 100)
    stored = measure(bundle.detector, measured_samples(one.index, numbers, one.settings.decoding))
    calibrations = list(bundle.calibrations)
    assert json.loads(json.dumps(stored.scores(LABELS, calibrations))) == bundle.config["scores"]
    card = (tmp_path / "bundle" / "model_card.md").read_text()
    for line in label_table(LABELS, calibrations, bundle.config["scores"]["labels"]):
        assert line in card
    assert [row["total"] for row in read_table(str(tmp_path / "history.parquet"))] == [0.7, 0.6]
    assert str(tmp_path) not in card + (tmp_path / "bundle" / "config.json").read_text()


def test_only_the_first_worker_shows_and_writes(data: str, tmp_path: Path) -> None:
    one = plan(data, tmp_path)
    shown: list[Any] = []
    observer = DetectorObserver(one, shown.append, rank=1)
    training = DetectorTraining(one.settings, one.source.label_map)
    observer.record(training, {"step": 1})
    observer.finish(training)
    assert shown == []
    assert not list(tmp_path.iterdir())


def test_a_share_of_nothing_is_a_dash_and_no_zero() -> None:
    nothing = label_scores(np.zeros(0), np.zeros(0, bool), Calibration())
    never = label_scores(np.full(4, -9.0), np.array([True, False, False, False]), Calibration(threshold=0.25))
    scores = {"wrong_angle": nothing, "watermark": never}
    lines = label_table(LABELS[:2], [Calibration(), Calibration(threshold=0.25)], scores)
    assert lines[2] == "| wrong_angle | 0 | 0 | – | – | – | – | 0.500 |"
    assert lines[3].startswith("| watermark | 1 | 4 | ")
    precision, recall = (lines[3].split(" | ")[number] for number in (4, 5))
    assert (precision, recall) == ("–", "0.000")
    kinds = {"clean": {"images": 4, "given": [0.25, None]}, "watermark": {"images": 1, "given": [0.0, 1.0]}}
    assert kind_table(LABELS[:2], kinds) == [
        "| image shows | images | wrong_angle | watermark |",
        "| --- | --- | --- | --- |",
        "| clean | 4 | 0.250 | – |",
        "| watermark | 1 | 0.000 | 1.000 |",
    ]


def test_labels_below_the_precision_that_was_asked_for_are_named(caplog: pytest.LogCaptureFixture) -> None:
    scores = {"poor": {"precision": 0.7951}, "good": {"precision": 0.8}, "never given": {"precision": None}}
    warn_of_poor(scores, 0.8)
    (record,) = caplog.records
    assert (
        "poor: precision 0.7951 on the test split, below --label-precision 0.8: train longer"
        in record.message
    )


def test_a_scale_at_either_bound_means_nothing() -> None:
    both = [Calibration(SCALES[0]), Calibration(1.0), Calibration(SCALES[1])]
    lines = bound_lines(LABELS, both)
    assert [line.split(":")[0] for line in lines] == ["wrong_angle", "non_white_background"]
    assert all("train longer, or leave it off the label map" in line for line in lines)
