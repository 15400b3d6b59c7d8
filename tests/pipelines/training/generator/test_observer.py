"""What a training leaves for people, and how it goes on where a measurement or the storage fails."""

import struct
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from botocore.exceptions import EndpointConnectionError
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from model.bundle import Bundle, load_bundle
from model.layers import ImageGenerator
from pipelines import storage
from pipelines.shards import reading
from pipelines.shards.index import PAIRED, VALIDATION
from pipelines.training.best import point_to, read_best
from pipelines.training.feed.batches import load_here
from pipelines.training.feed.selected import some_rows
from pipelines.training.generator import observer, validation
from pipelines.training.generator.loop import Training
from pipelines.training.generator.observer import Observer
from pipelines.training.generator.plan import Plan
from pipelines.training.generator.validation import Evaluate, Validator, measure_here
from pipelines.training.loop import Record
from pipelines.training.records import read_table, write_table
from tests.pipelines.training.builders import SIZE, plan_of
from tests.training_data import picture


def best_bundle(output: Path) -> Bundle:
    """What best.json names."""
    return load_bundle(output / read_best(str(output)).bundle)


def follow(
    plan: Plan,
    evaluate: Evaluate | None,
    told: list[str],
    report: Callable[[Record], None] = lambda record: None,
) -> Training:
    """A training to its end, of which `told` gets the lines."""
    training = Training(plan.settings, plan.source.label_map)
    follower = Observer(plan, report, told.append, evaluate, resumed_at=training.step)
    training.run(plan.index, partial(load_here, decode=plan.settings.decoding), follower)
    follower.finish(training)
    return training


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """The points of TensorBoard's files, by name and step. A record: its length, 4 bytes, an event, 4 bytes."""
    found: dict[tuple[str, int], float] = {}
    for file in folder.glob("events.out.tfevents.*"):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found.update({(one.tag, event.step): one.simple_value for one in event.summary.value})
            data = data[16 + length :]
    return found


def fake_measure(asked: list[int]):
    """An Evaluate whose L1 gets better with every step."""

    def evaluate(step: int, generator: ImageGenerator) -> Future:
        asked.append(step)
        done: Future = Future()
        pairs = {"l1": 1 / step, "n_pairs": 7, "psnr": 20.0 + step, "psnr_before": 20.0}
        done.set_result([{"step": step, "defect": "watermark", "n": 9, **pairs}])
        return done

    return evaluate


def test_the_best_step_is_kept_as_a_bundle(
    source, tmp_path: Path, quick_features: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "LEAST_FOR_FID", 4)
    plan = plan_of(source, tmp_path, validate_every=2, checkpoint_every=6, keep=1, steps=6)
    fids, told = {2: 9.0, 4: 3.0, 6: 5.0}, []
    validator = Validator(plan.settings, source, plan.index)

    def evaluate(step: int, generator: ImageGenerator) -> Future:
        found = validator.measure(step, generator)
        return measure_here(
            type("V", (), {"measure": lambda *_: [{**one, "fid": fids[step]} for one in found]})()
        )(step, generator)

    training = follow(plan, evaluate, told)
    assert [text.split(":")[0].partition(" on ")[0] for text in told] == [
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


def test_a_validation_that_fails_or_lags_is_told_and_the_training_goes_on(source, tmp_path: Path) -> None:
    told: list[str] = []
    late: Future = Future()

    def evaluate(step: int, generator: ImageGenerator) -> Future:
        if step == 2:
            failed: Future = Future()
            failed.set_exception(MemoryError("no room"))
            return failed
        return late

    plan = plan_of(source, tmp_path, validate_every=2, checkpoint_every=100, keep=1, steps=7, log_every=7)
    training = Training(plan.settings, source.label_map)
    follower = Observer(plan, lambda record: late.set_result([]), told.append, evaluate)
    training.run(plan.index, partial(load_here, decode=plan.settings.decoding), follower)
    follower.finish(training)
    assert told[0].startswith("measuring step 2 on the validation part")
    assert told[1] == "validation at step 2 failed: no room"
    assert told[3].startswith("step 6 is not validated: the validation of step 4 is still running")
    assert training.checkpoints.steps() == [7]


def test_a_resumed_training_measures_what_death_left_unmeasured(source, tmp_path: Path) -> None:
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
    assert asked == [2, 4, 5]  # 5 is no multiple of 2, but what ships


def test_the_last_step_is_measured_after_the_one_before(source, tmp_path: Path) -> None:
    class Late(Future):
        """Done when somebody waits for it."""

        def result(self, timeout: float | None = None) -> list:
            return self.found

    def evaluate(step: int, generator: ImageGenerator) -> Future:
        late = Late()
        late.found = fake_measure([])(step, generator).result()
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


def test_storage_that_refuses_all_but_checkpoints_and_the_bundle_costs_a_line_each(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, told = storage.write_bytes, []

    def refuse(uri: str, data: bytes) -> None:
        if not uri.startswith((str(tmp_path / "bundle"), f"{tmp_path}/checkpoints/.step")):
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        write(uri, data)

    monkeypatch.setattr(storage, "write_bytes", refuse)
    training = follow(
        plan_of(source, tmp_path, validate_every=2, grid_every=2, steps=2), fake_measure([]), told
    )
    assert training.checkpoints.steps() == [2]
    assert load_bundle(tmp_path / "bundle").config["validation"]["watermark"]["l1"] == 0.5
    warnings = [text for text in told if text.startswith("warning: cannot write")]
    for name in ("samples/step-000002.png", "tensorboard", "history.parquet", "validation.parquet"):
        assert any(str(tmp_path / name) in text and "nowhere" in text for text in warnings), name
    assert any("the best bundle" in text and "nowhere" in text for text in warnings)
    assert read_best(str(tmp_path)) is None


@pytest.mark.parametrize("broken_off", ["config.json", "generator.safetensors", "best.json"])
@pytest.mark.parametrize("dies_at", [2, 4])
def test_death_while_the_best_is_written_leaves_the_one_before(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_off: str, dies_at: int
) -> None:
    """A new best at every second step: dead before `broken_off` of that of step `dies_at` is written."""
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


def test_a_step_that_is_trained_again_takes_the_place_of_its_earlier_bundle(source, tmp_path: Path) -> None:
    """The newest checkpoint was damaged: the training went back, and comes to the best step once more."""
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
    real = reading.read_rows

    def spy(order):
        for row, times in real(order):
            read.add(row["image_id"])
            yield row, times

    monkeypatch.setattr(reading, "read_rows", spy)
    follow(plan, measure_here(Validator(plan.settings, source, plan.index)), [])
    assert len(read) > 4
    assert not read & {f"p{number}" for number in range(3, 16, 4)}


def test_a_best_of_other_photos_does_not_compare(source, tmp_path: Path) -> None:
    """A training that goes on with another share: what was best before, also on the test split, is not any more."""
    plan = plan_of(source, tmp_path, validate_every=2, steps=2)
    follow(plan, fake_measure([]), [])
    point_to(str(tmp_path), replace(read_best(str(tmp_path)), metric="l1", score=1e-9))
    further = replace(plan, settings=replace(plan.settings, steps=4))
    follow(further, fake_measure([]), [])
    assert best_bundle(tmp_path).config["step"] == 4


def test_the_figures_are_kept_for_every_logged_step(source, tmp_path: Path) -> None:
    """history.parquet and TensorBoard's files say what was shown."""
    shown: list[Record] = []
    plan = plan_of(source, tmp_path, steps=4, log_every=2, validate_every=4)
    follow(plan, fake_measure([]), [], shown.append)
    assert [record["step"] for record in shown] == [2, 4]
    history = read_table(str(tmp_path / "history.parquet"))
    assert [{name: row[name] for name in record} for row, record in zip(history, shown, strict=True)] == shown
    curves = scalars(tmp_path / "tensorboard")
    for record in shown:
        for name in record.keys() - {"step"}:
            assert curves[f"training/{name}", record["step"]] == pytest.approx(record[name], rel=1e-6)
    assert curves["psnr/watermark", 4] == 24.0
    assert curves["l1/watermark", 4] == 0.25


def test_a_grid_shows_source_output_and_target_of_photos_that_train_nothing(source, tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path, steps=2, grid_every=2)
    follow(plan, None, [])
    with Image.open(tmp_path / "samples" / "step-000002.png") as grid:
        pixels = np.asarray(grid)
    defects = ["non_white_background"] * 4 + ["watermark"] * 4 + ["wrong_angle"] * 4
    assert pixels.shape == (len(defects) * SIZE, 3 * SIZE, 3)
    wanted = some_rows(source, plan.index, PAIRED, VALIDATION, 4, plan.settings.validation_decoding)
    clean = np.array([picture(number)[1].mean((0, 1)) for number in range(16)])
    for number, row in enumerate(sorted(wanted, key=lambda row: row["defect"])):  # stable: the data's order
        left, middle, right = np.split(pixels[number * SIZE : (number + 1) * SIZE], 3, axis=1)
        assert row["defect"] == defects[number]
        assert (left == row["source"]).all()
        assert (right == row["target"]).all()
        assert np.abs(clean - right.mean((0, 1))).sum(1).argmin() == (0, 2, 12, 13)[number % 4]
        assert (middle != left).any()
        assert (middle != right).any()


def test_only_the_first_worker_shows_and_writes(source, tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path, steps=2, grid_every=2, validate_every=2)
    training = Training(plan.settings, source.label_map)
    shown: list[Record] = []
    told: list[str] = []
    asked: list[int] = []
    follower = Observer(plan, shown.append, told.append, fake_measure(asked), rank=1)
    training.save = lambda: None  # what other ranks do not do either
    training.run(plan.index, partial(load_here, decode=plan.settings.decoding), follower)
    follower.finish(training)
    assert training.step == 2
    assert (shown, told, asked) == ([], [], [])
    assert not list(tmp_path.iterdir())


def test_a_bundle_says_where_it_comes_from_and_not_from_which_machine(source, tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path, steps=2, validate_every=2, fid_weights="/home/somebody/weights.pt")
    follow(replace(plan, command_line="python jobs/train.py --data d"), fake_measure([]), [])
    for folder in (tmp_path / "bundle", tmp_path / "best" / "step-000002"):
        config = load_bundle(folder).config
        assert config["recipe"] == "proposed"
        assert config["conditions"] == {
            "groups": source.label_map.groups,
            "types": {name: defect.id for name, defect in source.label_map.defects.items()},
        }
        assert (config["step"], config["training"]["steps"]) == (2, 2)
        assert config["dataset"]["fingerprint"] == source.fingerprint
        assert config["validation"]["watermark"]["l1"] == 0.5
        card = (folder / "model_card.md").read_text()
        assert "python jobs/train.py --data d" in card
        assert "trained for 2 steps at 32 pixels" in card
        for text in (card, (folder / "config.json").read_text()):
            assert str(tmp_path) not in text
            assert "/home/somebody" not in text


def test_a_bundle_that_cannot_be_written_fails_the_training(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else costs a line, but without its bundle a training has not succeeded."""
    write = storage.write_bytes

    def refuse(uri: str, data: bytes) -> None:
        if uri.startswith(str(tmp_path / "bundle")):
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        write(uri, data)

    monkeypatch.setattr(storage, "write_bytes", refuse)
    with pytest.raises(EndpointConnectionError):
        follow(plan_of(source, tmp_path, steps=2), None, [])


def test_figures_of_steps_after_the_checkpoint_are_measured_again(source, tmp_path: Path) -> None:
    """The training died between a measurement and the next checkpoint."""
    plan = plan_of(source, tmp_path, validate_every=2, steps=2)
    follow(plan, fake_measure([]), [])
    rows = read_table(str(tmp_path / "validation.parquet"))
    write_table(str(tmp_path / "validation.parquet"), [*rows, {**rows[0], "step": 4, "l1": 99.0}])
    asked: list[int] = []
    follow(replace(plan, settings=replace(plan.settings, steps=4)), fake_measure(asked), [])
    assert asked == [4]
    measured = read_table(str(tmp_path / "validation.parquet"))
    assert [(row["step"], row["l1"]) for row in measured] == [(2, 0.5), (4, 0.25)]
