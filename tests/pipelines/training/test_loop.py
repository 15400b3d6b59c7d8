"""The loop in process, with a generator: it survives kills and reports errors."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from model.config import GeneratorConfig
from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.shards.source import TrainingSource, open_source
from pipelines.training.generator.loop import Training
from pipelines.training.loop import DivergedError
from tests.pipelines.training.builders import SMALL, Recorder, run, settings
from tests.training_data import write_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TrainingSource:
    torch.set_num_threads(1)
    return open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "set"))])


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(
    source: TrainingSource, tmp_path: Path
) -> None:
    curves = []
    for index, seed in enumerate((0, 0, 1)):
        training = Training(settings(tmp_path / str(index), seed=seed, steps=3), source.label_map)
        curves.append([record["total"] for record in run(training, source)])
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


class KilledError(Exception):
    """Stand for a SIGKILL: nothing after it runs."""


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_killed_run_that_is_resumed_gives_the_losses_of_one_that_was_not(
    source: TrainingSource, tmp_path: Path, ema: float
) -> None:
    """Killed between two checkpoints, in the middle of the second epoch of 18 updates, unpaired rows included."""
    changes = {"steps": 23, "checkpoint_every": 10, "ema": ema, "cropped_groups": frozenset({"background"})}
    whole = Training(settings(tmp_path / "whole", **changes), source.label_map)
    wanted = run(whole, source)

    def kill(training: Training) -> None:
        if training.step == 22:
            raise KilledError

    with pytest.raises(KilledError):
        run(Training(settings(tmp_path / "killed", **changes), source.label_map), source, Recorder(kill))
    again = Training(settings(tmp_path / "killed", **changes), source.label_map)
    assert (again.step, again.epoch, again.taken) == (20, 2, 2)
    resumed = run(again, source)
    assert [record["step"] for record in again.history] == list(range(1, 24))
    for record, other in zip(wanted[20:], resumed, strict=True):
        for name in (
            "total",
            "adversarial",
            "reconstruction",
            "cycle",
            "identity",
            "discriminator",
            "rate",
            "epoch",
        ):
            assert record[name] == pytest.approx(other[name], rel=1e-5), (record["step"], name)
    for name, value in whole.generator.state_dict().items():
        torch.testing.assert_close(again.generator.state_dict()[name], value, rtol=1e-5, atol=1e-7)


def test_a_batch_in_parts_gives_the_losses_of_the_whole(source: TrainingSource, tmp_path: Path) -> None:
    curves = []
    for size, parts in ((4, 1), (2, 2), (1, 4)):
        config = settings(tmp_path / str(parts), batch_size=size, accumulate=parts, steps=3)
        curves.append([record["total"] for record in run(Training(config, source.label_map), source)])
    # From the first update on, Adam magnifies the differences that rounding makes.
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)
    assert curves[2] == pytest.approx(curves[0], rel=1e-3)


def test_with_other_workers_the_epoch_continues_at_the_same_share(
    source: TrainingSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(settings(tmp_path, steps=8, checkpoint_every=8), source.label_map)
    run(training, source)
    again = Training(settings(tmp_path, steps=8), source.label_map, workers=2)
    assert (again.step, again.epoch, again.taken) == (8, 1, 4)
    assert "4 samples an update now and 2 before" in caplog.text


def test_a_loss_that_is_not_finite_names_step_defect_and_checkpoint(
    source: TrainingSource, tmp_path: Path
) -> None:
    def poison(training: Training) -> None:
        if training.step == 3:
            with torch.no_grad():
                training.method.generator.head.bias.fill_(float("nan"))

    training = Training(settings(tmp_path, batch_size=1, checkpoint_every=2), source.label_map)
    defects = "(non_white_background|watermark|wrong_angle)"
    follower = Recorder(poison)
    with pytest.raises(
        DivergedError, match=rf"step 4: the loss \w+ is nan in a batch of {defects}\. .*step-00000002\.pt"
    ):
        run(training, source, follower)
    assert [record["step"] for record in follower.records] == [1, 2, 3, 4]
    assert follower.saves[-1] == 4  # the history with the bad record


def test_weights_that_are_not_finite_never_become_a_checkpoint(
    source: TrainingSource, tmp_path: Path
) -> None:
    training = Training(settings(tmp_path), source.label_map)
    with torch.no_grad():
        training.method.generator.head.bias.fill_(float("inf"))
    with pytest.raises(DivergedError, match=r"the weights .*head\.bias are not finite"):
        training.save()
    assert training.checkpoints.steps() == []


def test_losses_of_any_name_do_not_replace_a_record_s_own_keys(
    source: TrainingSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(settings(tmp_path, steps=2), source.label_map)
    losses = {name: torch.tensor(99.0) for name in ("total", "step", "epoch", "crease")}
    monkeypatch.setattr(training, "update", lambda batch, rate: losses)
    records = run(training, source)
    assert [(one["step"], one["epoch"], one["crease"]) for one in records] == [(1, 1, 99.0), (2, 1, 99.0)]


def test_too_little_data_for_one_batch_is_an_error_and_not_an_endless_loop(
    source: TrainingSource, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="--batch-size"):
        run(Training(settings(tmp_path, batch_size=1000), source.label_map), source)


def test_a_checkpoint_of_other_networks_is_named_with_the_remedy(tmp_path: Path) -> None:
    label_map = LabelMap.default()
    Training(settings(tmp_path), label_map).save()
    wider = replace(
        SMALL, generator=GeneratorConfig(n_groups=2, n_types=3, width=8, n_blocks=1, n_before_eta=0)
    )
    with pytest.raises(
        ConfigurationError, match=r"step-00000000\.pt.*same network flags; use --overwrite to start over"
    ):
        Training(settings(tmp_path, method=wider), label_map)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_a_resume_puts_adams_moments_on_the_device_and_leaves_its_counters_on_the_cpu(
    source: TrainingSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, every update would wait for each of the counters. `meta` stands for the device."""
    run(Training(settings(tmp_path, steps=2), source.label_map), source)
    monkeypatch.setattr("pipelines.training.loop.choose_device", lambda requested: torch.device("meta"))
    step = Training(settings(tmp_path, steps=4), source.label_map).step_once
    for optimizer in (step.generator_optimizer, step.discriminator_optimizer):
        states = list(optimizer.state.values())
        assert {str(one["exp_avg"].device) for one in states} == {"meta"}
        assert [(str(one["step"].device), one["step"].item()) for one in states] == [("cpu", 2.0)] * len(
            states
        )


def resume_alone(rank: int, folder: str) -> None:
    """Start a training whose --output has a checkpoint for rank 0 only."""
    output = Path(folder) / str(rank)
    if rank == 0:
        first = Training(settings(output), LabelMap.default())
        first.step = 5
        first.save()
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    try:
        Training(settings(output), LabelMap.default(), None, rank, 2)
    except ConfigurationError as error:
        (Path(folder) / f"error-{rank}").write_text(str(error))
        dist.barrier()  # gloo may abort a process whose peer has gone before it says goodbye
    finally:
        dist.destroy_process_group()


def test_workers_that_see_different_checkpoints_stop(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(resume_alone, (str(tmp_path),), 2)
    for rank in (0, 1):
        assert "--output" in (tmp_path / f"error-{rank}").read_text()
        assert "must be storage that all nodes see" in (tmp_path / f"error-{rank}").read_text()
