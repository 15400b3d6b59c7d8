"""Figures on the validation part, the best bundle, and the behaviour without weights or after a failure."""

from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from botocore.exceptions import EndpointConnectionError

from model.bundle import Bundle, load_bundle
from model.layers import ImageGenerator
from pipelines.metrics.fid.weights import FidWeightsMissing
from pipelines.shards import reading as decoding
from pipelines.shards.index import build_index
from pipelines.shards.source import open_source
from pipelines.storage import objects as storage
from pipelines.training.best import point_to, read_best
from pipelines.training.feed.batches import load_here
from pipelines.training.generator import distances, observer, validation
from pipelines.training.generator.job import train_in_process
from pipelines.training.generator.loop import Training
from pipelines.training.generator.observer import Observer
from pipelines.training.generator.validation import (
    LEAST_FOR_FID,
    Validator,
    forecast,
    log_forecast,
    measure_here,
    score,
)
from pipelines.training.plan import Plan
from pipelines.training.records import read_table
from tests.pipelines.training.builders import SMALL, settings
from tests.training_data import write_dataset


class Identity(ImageGenerator):
    """Returns its input."""

    def __init__(self) -> None:
        super().__init__(SMALL.generator)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor, group: torch.Tensor, type_: torch.Tensor) -> torch.Tensor:
        return image


class FakeFeatures:
    """Compute features of 2048 numbers quickly: the mean colour times weights."""

    def __call__(self, images) -> np.ndarray:
        means = np.array([image.mean() / 255 for image in images], np.float32)
        return means[:, None] * np.linspace(0, 1, 2048, dtype=np.float32)[None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory):
    return open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "set"))])


@pytest.fixture
def quick_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "find_weights", lambda path: Path("weights"))
    monkeypatch.setattr(distances, "load_features", lambda path, device: FakeFeatures())


def plan_of(source, output: Path, **changes) -> Plan:
    index = build_index(source.shards, source.label_map, 0.25)  # p0, p2, p12 and p13
    return Plan(settings(output, validation_share=0.25, **changes), source, index, "train")


def best_bundle(output: Path) -> Bundle:
    """Load the bundle that best.json names."""
    return load_bundle(output / read_best(str(output)).bundle)


def follow(plan: Plan, evaluate, lines: list[str]) -> Training:
    training = Training(plan.settings, plan.source.label_map)
    follower = Observer(plan, lambda record: None, lines.append, evaluate, resumed_at=training.step)
    training.run(plan.index, partial(load_here, decode=plan.settings.decoding), follower)
    follower.finish(training)
    return training


def test_a_generator_that_does_nothing_scores_the_validation_part_itself(
    source, tmp_path: Path, quick_features: None
) -> None:
    plan = plan_of(source, tmp_path, validation_images=3)
    measured = {
        one["defect"]: one for one in Validator(plan.settings, source, plan.index).measure(7, Identity())
    }
    assert set(measured) == set(source.label_map.defects)
    for one in measured.values():
        assert (one["step"], one["n"], one["n_reference"]) == (7, 3, 3)
        assert one["fid"] >= 0
    # A product that is upside down has the same mean colour, so only L1 differs.
    assert measured["wrong_angle"]["fid"] < 1e-6 < measured["non_white_background"]["fid"]
    assert measured["wrong_angle"]["l1"] > 0.1
    assert measured["watermark"]["psnr"] > measured["non_white_background"]["psnr"]


def test_without_weights_there_are_l1_and_psnr(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(path: object) -> Path:
        raise FidWeightsMissing("none")

    monkeypatch.setattr(distances, "find_weights", missing)
    plan = plan_of(source, tmp_path)
    measured = Validator(plan.settings, source, plan.index).measure(1, Identity())
    assert all("fid" not in one and one["l1"] > 0 for one in measured)
    assert score(measured) == ("l1", pytest.approx(np.mean([one["l1"] for one in measured])))


def test_the_best_step_is_kept_as_a_bundle(
    source, tmp_path: Path, quick_features: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "LEAST_FOR_FID", 4)
    plan = plan_of(source, tmp_path, validate_every=2, checkpoint_every=6, keep=1, steps=6)
    fids, lines = {2: 9.0, 4: 3.0, 6: 5.0}, []
    validator = Validator(plan.settings, source, plan.index)

    def evaluate(step: int, generator: ImageGenerator) -> Future:
        measured = validator.measure(step, generator)
        return measure_here(
            type("V", (), {"measure": lambda *_: [{**one, "fid": fids[step]} for one in measured]})()
        )(step, generator)

    training = follow(plan, evaluate, lines)
    assert [text.split(":")[0].partition(" on ")[0] for text in lines] == [
        text for step in (2, 4, 6) for text in (f"measuring step {step}", f"validation at step {step}")
    ]
    assert training.checkpoints.steps() == [6]
    best = best_bundle(tmp_path)
    assert best.config["step"] == 4
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["step-000004"]  # that of step 2 is gone
    assert best.config["validation"]["watermark"]["fid"] == 3.0
    assert best.config["chosen_by"] == {"metric": "fid", "mean": 3.0, "split": "validation"}
    assert best.config["scores_split"] == "validation"
    assert load_bundle(tmp_path / "bundle").config["validation"]["watermark"]["fid"] == 5.0
    steps = [row["step"] for row in read_table(str(tmp_path / "validation.parquet"))]
    assert steps == [2, 2, 2, 4, 4, 4, 6, 6, 6]


def test_a_validation_that_fails_or_lags_is_reported_and_the_training_continues(
    source, tmp_path: Path
) -> None:
    lines: list[str] = []
    late: Future = Future()

    def evaluate(step: int, generator: ImageGenerator) -> Future:
        if step == 2:
            failed: Future = Future()
            failed.set_exception(MemoryError("no room"))
            return failed
        return late

    plan = plan_of(source, tmp_path, validate_every=2, checkpoint_every=100, keep=1, steps=7, log_every=7)
    training = Training(plan.settings, source.label_map)
    follower = Observer(plan, lambda record: late.set_result([]), lines.append, evaluate)
    training.run(plan.index, partial(load_here, decode=plan.settings.decoding), follower)
    follower.finish(training)
    assert lines[0].startswith("measuring step 2 on the validation part")
    assert lines[1] == "validation at step 2 failed: no room"
    assert lines[3].startswith("step 6 is not validated: the validation of step 4 is still running")
    assert training.checkpoints.steps() == [7]


def test_a_resumed_training_measures_the_step_that_a_crash_left_unmeasured(source, tmp_path: Path) -> None:
    asked: list[int] = []

    def evaluate(step: int, generator: ImageGenerator) -> Future:
        asked.append(step)
        done: Future = Future()
        done.set_result([{"step": step, "defect": "watermark", "n": 1, "l1": 1.0}])
        return done

    plan = plan_of(source, tmp_path, validate_every=2, steps=2)
    follow(plan, None, [])
    follow(replace(plan, settings=replace(plan.settings, steps=4)), evaluate, [])
    follow(replace(plan, settings=replace(plan.settings, steps=5)), evaluate, [])
    assert asked == [2, 4, 5]  # 5 is not a multiple of 2, but the last step


def fake_measure(asked: list[int]):
    """Return an Evaluate whose L1 gets better with every step."""

    def evaluate(step: int, generator: ImageGenerator) -> Future:
        asked.append(step)
        done: Future = Future()
        pairs = {"l1": 1 / step, "n_pairs": 7, "psnr": 20.0 + step, "psnr_before": 20.0}
        done.set_result([{"step": step, "defect": "watermark", "n": 9, **pairs}])
        return done

    return evaluate


def test_the_last_step_is_measured_after_the_one_before(source, tmp_path: Path) -> None:
    class Late(Future):
        """Has a result only for a caller that waits for it."""

        def result(self, timeout: float | None = None) -> list:
            return self.measured

    def evaluate(step: int, generator: ImageGenerator) -> Future:
        late = Late()
        late.measured = fake_measure([])(step, generator).result()
        return late

    plan = plan_of(source, tmp_path, validate_every=2, steps=3)
    follow(plan, evaluate, [])
    assert load_bundle(tmp_path / "bundle").config["validation"]["watermark"]["psnr"] == 23.0
    assert best_bundle(tmp_path).config["step"] == 3


def test_a_new_best_takes_its_scores_from_the_measurement(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    monkeypatch.setattr(observer, "scores", lambda *_: scored.append(1) or {})
    follow(plan_of(source, tmp_path, validate_every=2, steps=4), fake_measure([]), [])
    assert best_bundle(tmp_path).config["scores"] == {
        "watermark": {"n": 7, "psnr_before": 20.0, "psnr_after": 24.0}
    }
    assert len(scored) == 1  # for the final bundle


def test_storage_that_refuses_all_but_checkpoints_and_the_bundle_only_gives_warnings(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, lines = storage.write_bytes, []

    def refuse(uri: str, data: bytes) -> None:
        if not uri.startswith((str(tmp_path / "bundle"), f"{tmp_path}/checkpoints/.step")):
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        write(uri, data)

    monkeypatch.setattr(storage, "write_bytes", refuse)
    training = follow(
        plan_of(source, tmp_path, validate_every=2, grid_every=2, steps=2), fake_measure([]), lines
    )
    assert training.checkpoints.steps() == [2]
    assert load_bundle(tmp_path / "bundle").config["validation"]["watermark"]["l1"] == 0.5
    warnings = [text for text in lines if text.startswith("warning: cannot write")]
    for name in ("samples/step-000002.png", "tensorboard", "history.parquet", "validation.parquet"):
        assert any(str(tmp_path / name) in text and "nowhere" in text for text in warnings), name
    assert any("the best bundle" in text and "nowhere" in text for text in warnings)
    assert read_best(str(tmp_path)) is None


@pytest.mark.parametrize("broken_off", ["config.json", "generator.safetensors", "best.json"])
@pytest.mark.parametrize("dies_at", [2, 4])
def test_a_crash_while_the_best_is_written_leaves_the_one_before(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_off: str, dies_at: int
) -> None:
    """Every second step has a new best; the training dies before it writes `broken_off` of step `dies_at`."""
    write, asked = storage.write_bytes, []

    class KilledError(Exception):
        pass

    def die(uri: str, data: bytes) -> None:
        if uri.endswith(broken_off) and "/bundle" not in uri and asked[-1] == dies_at:
            raise KilledError
        write(uri, data)

    plan = plan_of(source, tmp_path, validate_every=2, checkpoint_every=3, steps=6)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", die)
        with pytest.raises(KilledError):
            follow(plan, fake_measure(asked), [])
    if dies_at == 2:
        assert read_best(str(tmp_path)) is None
    else:
        assert best_bundle(tmp_path).config["step"] == 2
    asked.clear()
    follow(plan, fake_measure(asked), [])
    assert asked[-1] == 6
    assert best_bundle(tmp_path).config["step"] == 6
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["step-000006"]


def test_a_step_that_is_trained_again_replaces_its_earlier_bundle(source, tmp_path: Path) -> None:
    """The newest checkpoint was damaged: the training went back, and reaches the best step once more."""
    plan = plan_of(source, tmp_path, validate_every=2, steps=2)
    follow(plan, fake_measure([]), [])
    point_to(str(tmp_path), replace(read_best(str(tmp_path)), score=9.0))
    (tmp_path / "validation.parquet").unlink()
    follow(plan, fake_measure([]), [])
    assert read_best(str(tmp_path)).score == 0.5
    assert best_bundle(tmp_path).config["step"] == 2
    assert len(list((tmp_path / "best").iterdir())) == 1


def test_nothing_of_the_test_split_is_read(
    source, tmp_path: Path, quick_features: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first step to the bundle: training, validation, samples, best bundle and scores."""
    plan = plan_of(source, tmp_path, validate_every=2, grid_every=2, steps=4)
    read: set[str] = set()
    real = decoding.read_rows

    def spy(order):
        for row, times in real(order):
            read.add(row["image_id"])
            yield row, times

    monkeypatch.setattr(decoding, "read_rows", spy)
    follow(plan, measure_here(Validator(plan.settings, source, plan.index)), [])
    assert len(read) > 4
    assert not read & {f"p{number}" for number in range(3, 16, 4)}


def measurement(n: int = LEAST_FOR_FID, n_reference: int = LEAST_FOR_FID, **figures: float) -> dict:
    return {"n": n, "n_reference": n_reference, **figures}


ALL = {"fid": 9.0, "kid": 0.5, "l1": 0.1}


@pytest.mark.parametrize(
    ("measured", "chosen"),
    [
        ([measurement(**ALL), measurement(**ALL)], ("fid", 9.0)),
        # One defect has too few photos on a side: L1 is used for both.
        ([measurement(**ALL), measurement(n=LEAST_FOR_FID - 1, fid=1, kid=0.1, l1=0.3)], ("l1", 0.2)),
        ([measurement(n_reference=LEAST_FOR_FID - 1, **ALL)], ("l1", 0.1)),
        # Unpaired photos have no L1, and KID is not biased by their number.
        ([measurement(n=9, fid=9, kid=0.5), measurement(n=9, **ALL)], ("kid", 0.5)),
        ([measurement(l1=0.1), measurement(l1=0.3)], ("l1", 0.2)),
        # No metric that all have: the one that most have, FID first.
        ([measurement(l1=0.1), measurement(fid=7, kid=0.2)], ("fid", 7)),
        ([measurement()], None),
        ([], None),
    ],
)
def test_the_best_is_chosen_by_the_metric_that_most_defects_have(
    measured: list[dict], chosen: tuple | None
) -> None:
    assert score(measured) == (chosen and (chosen[0], pytest.approx(chosen[1])))


def test_the_choice_of_the_best_is_logged_before_the_first_step(
    source, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "train")

    def logged(has_weights: bool = True, **changes) -> tuple[str | None, str]:
        caplog.clear()
        plan = plan_of(source, tmp_path, **{"validate_every": 2, **changes})
        expected = forecast(plan.index, source.label_map, plan.settings, has_weights)
        log_forecast(expected, plan.settings, has_weights)
        assert expected["images"]["watermark"] == {"sources": 4, "targets": 4, "pairs": 4}
        return expected["chosen_by"], caplog.text

    chosen, text = logged()
    assert chosen == "l1"
    assert "the best bundle is chosen by L1 on photos held back by --validation-share 0.25" in text
    assert "FID needs 50 validation photos" in text
    assert "watermark (4)" in text
    chosen, text = logged(has_weights=False)
    assert (chosen, "FID" in text) == ("l1", False)
    assert logged(validate_every=0) == (None, "")
    monkeypatch.setattr(validation, "LEAST_FOR_FID", 4)
    chosen, text = logged()
    assert chosen == "fid"
    assert "FID needs" not in text


def test_a_validation_part_without_photos_is_reported_and_the_training_continues(
    source, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = build_index(source.shards, source.label_map, 0)
    plan = Plan(settings(tmp_path, validation_share=0, validate_every=2, steps=2), source, index, "train")
    expected = forecast(index, source.label_map, plan.settings, True)
    log_forecast(expected, plan.settings, True)
    assert expected["chosen_by"] is None
    assert "--validation-share 0 holds back no photo that could be measured" in caplog.text
    train_in_process(plan, lambda: None)
    assert load_bundle(tmp_path / "bundle").config["scores"] == {}
    assert read_best(str(tmp_path)) is None
    assert not (tmp_path / "samples").exists()


def test_a_best_score_on_other_photos_is_not_compared(source, tmp_path: Path) -> None:
    """After --resume with another share, the earlier best score does not count any more."""
    plan = plan_of(source, tmp_path, validate_every=2, steps=2)
    follow(plan, fake_measure([]), [])
    point_to(str(tmp_path), replace(read_best(str(tmp_path)), metric="l1", score=1e-9))
    further = replace(plan, settings=replace(plan.settings, steps=4))
    follow(further, fake_measure([]), [])
    assert best_bundle(tmp_path).config["step"] == 4
