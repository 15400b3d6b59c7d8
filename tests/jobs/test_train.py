"""jobs/train.py as a user runs it: in process, on Ray Train, dry, wrong, killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import train, train_flags
from model.bundle import load_bundle
from model.errors import ConfigurationError
from pipelines.ray_session import Cluster
from pipelines.training.ray_job import choose_gpu, worker_cpus
from pipelines.training.source import open_source
from tests.training_data import write_dataset

SMALL = [
    "--image-size",
    "32",
    "--batch-size",
    "2",
    "--width",
    "4",
    "--blocks",
    "1",
    "--log-every",
    "1",
    "--validate-every",
    "0",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("train") / "set"))


def check_outputs(output: Path, steps: int) -> None:
    bundle = load_bundle(output / "bundle")
    assert bundle.config["image_size"] == 32
    assert bundle.config["recipe"] == "proposed"
    assert set(bundle.config["scores"]) == {"non_white_background", "watermark", "wrong_angle"}
    card = (output / "bundle" / "model_card.md").read_text()
    assert "jobs/train.py --data" in card
    assert (output / "bundle" / "curves.png").exists()
    history = pq.read_table(output / "history.parquet")
    assert history["step"].to_pylist() == list(range(1, steps + 1))
    assert list((output / "tensorboard").glob("events.out.tfevents.*"))
    assert (output / "checkpoints" / f"step-{steps:08d}.pt").exists()
    with Image.open(output / "samples" / f"step-{steps:06d}.png") as grid:
        assert grid.width == 3 * 32  # input, output, target


def test_in_process(data: str, tmp_path: Path) -> None:
    assert (
        train.main(["--data", data, "--output", str(tmp_path), "--workers", "0", "--steps", "3", *SMALL]) == 0
    )
    check_outputs(tmp_path, 3)


@pytest.mark.ray
def test_two_workers_on_ray(data: str, tmp_path: Path, ray_local: None) -> None:
    assert (
        train.main(["--data", data, "--output", str(tmp_path), "--workers", "2", "--epochs", "1", *SMALL])
        == 0
    )
    check_outputs(tmp_path, 36 // 4)  # 36 training rows, two workers of two


def test_a_killed_training_goes_on_with_resume(data: str, tmp_path: Path, repository: Path) -> None:
    """SIGKILL right after a checkpoint exists; --resume ends at the asked step with an unbroken history."""
    line = [
        sys.executable,
        "jobs/train.py",
        "--data",
        data,
        "--output",
        str(tmp_path),
        "--workers",
        "0",
        *SMALL,
    ]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    process = subprocess.Popen(
        [*line, "--steps", "100000", "--checkpoint-every", "2"],
        cwd=repository,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for text in process.stderr:
        if "step 5/" in text:  # a line of a log, not of a bar: standard error is a pipe
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "bundle").exists()
    assert train.main([*line[2:], "--steps", "12", "--resume"]) == 0
    check_outputs(tmp_path, 12)


def test_resume_starts_where_there_is_no_checkpoint(data: str, tmp_path: Path) -> None:
    """So that a cluster may start the same command again and again."""
    line = ["--data", data, "--output", str(tmp_path), "--workers", "0", "--steps", "1", *SMALL]
    assert train.main([*line, "--resume"]) == 0
    check_outputs(tmp_path, 1)


def test_init_from_starts_with_the_bundles_weights(data: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    common = ["--data", data, "--workers", "0", *SMALL]
    train.main([*common, "--output", str(first), "--steps", "2"])
    train.main(
        [
            *common,
            "--output",
            str(second),
            "--steps",
            "1",
            "--init-from",
            str(first / "bundle"),
            "--rate",
            "1e-12",
        ]
    )
    before = load_bundle(first / "bundle").generator.state_dict()
    after = load_bundle(second / "bundle").generator.state_dict()
    for name, value in before.items():
        assert (after[name] - value).abs().max() < 1e-6


def test_an_occupied_output_is_not_overwritten_unasked(data: str, tmp_path: Path) -> None:
    line = ["--data", data, "--output", str(tmp_path), "--workers", "0", "--steps", "1", *SMALL]
    train.main(line)
    with pytest.raises(ConfigurationError, match="--resume continues it, --overwrite replaces it"):
        train.main(line)
    stale, foreign = tmp_path / "samples" / "step-000099.png", tmp_path / "notes.txt"
    stale.write_bytes(b"")
    foreign.write_text("mine")
    with pytest.raises(ConfigurationError, match="--overwrite would remove"):
        train.main([*line, "--overwrite", "--init-from", str(tmp_path / "bundle")])
    assert train.main([*line, "--overwrite"]) == 0
    assert not stale.exists()
    assert foreign.read_text() == "mine"
    check_outputs(tmp_path, 1)
    assert str(tmp_path) not in (tmp_path / "bundle" / "model_card.md").read_text()


def test_the_cards_command_keeps_only_the_names_of_local_paths() -> None:
    line = [
        "--data",
        "/home/me/first",
        "s3://shop/second",
        "--output=/home/me/run",
        "--init-from",
        "old/bundle",
    ]
    told = train.portable_command(line, train_flags.parser(None).parse_args(line))
    assert told == "python jobs/train.py --data first s3://shop/second --output=run --init-from bundle"


def test_epochs_count_what_an_epoch_draws(data: str) -> None:
    line = ["--data", data, "--output", "x", "--epochs", "2", "--batch-size", "2", "--workers", "0"]
    _, plan = train.resolve([*line, "--repeat", "watermark=3", "--accumulate", "3"])
    assert plan.settings.steps == 2 * ((36 + 2 * 12) // 6)
    assert train.resolve([*line, "--sampler", "balanced"])[1].settings.steps == 36


def test_recipes_have_their_own_constants_and_take_overrides(data: str) -> None:
    line = ["--data", data, "--output", "x", "--workers", "2:4", "--recipe"]
    method = train.resolve([*line, "paired_only"])[1].settings.method
    assert (method.objective.cycle, method.objective.reconstruction) == (0, 150)
    args, plan = train.resolve([*line, "proposed", "--cycle", "3", "--set", "discriminator.n_layers=2"])
    assert (plan.settings.method.objective.cycle, plan.settings.method.discriminator.n_layers) == (3, 2)
    assert plan.workers == args.workers == (2, 4)


def test_a_storage_that_does_not_answer_is_one_message(data: str, tmp_path: Path, dead_s3: None) -> None:
    with pytest.raises(ConfigurationError, match="--data: cannot read s3://b/x"):
        train.main(["--data", "s3://b/x", "--output", str(tmp_path), "--dry-run"])
    line = ["--data", data, "--workers", "0", *SMALL, "--dry-run"]
    with pytest.raises(ConfigurationError, match="--output: cannot read s3://b/x"):
        train.main([*line, "--output", "s3://b/x"])
    with pytest.raises(ConfigurationError, match="--init-from: cannot read s3://b/x"):
        train.main([*line, "--output", str(tmp_path), "--init-from", "s3://b/x"])


def test_a_damaged_dataset_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set")
    (folder / "dataset.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"--data .*dataset\.json is damaged"):
        open_source([str(folder)])


def test_a_dry_run_prints_the_configuration_and_writes_nothing(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert train.main(["--data", data, "--output", str(tmp_path / "run"), "--dry-run", "--width", "12"]) == 0
    assert '"width": 12' in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--workers", "-1"], "argument --workers"),
        (["--steps", "0"], "argument --steps"),
        (["--recipe", "magic"], "argument --recipe"),
        (["--device", "cuda", "--workers", "0"], "--device cuda was asked for"),
        (["--directions", "forward"], "cycle weight must be 0"),
        (["--geometry", "affine", "--geometric-groups", "size"], "--geometric-groups: size is no group"),
        (["--repeat", "watermark=0"], "--repeat watermark=0: use DEFECT=N"),
        (["--init-from", "/nowhere"], "--init-from: cannot read /nowhere: it does not exist"),
        (["--image-size", "30"], "a multiple of 4"),
        (["--workers", "4:2"], "argument --workers"),
        (["--recipe", "no_labels", "--geometry", "affine"], "recipe no_labels has no use for"),
        (["--set", "width=3"], "--set width=3: use PART.NAME=VALUE"),
        (["--flip", "wrong_angle"], "--flip wrong_angle: its group is in --geometric-groups"),
        (["--batch-size", "99"], "fewer than one update of 1 x 99"),
        (["--ema", "1.5"], "ema is 1.5"),
    ],
)
def test_a_wrong_command_line_is_one_clear_message(
    flags: list[str],
    complaint: str,
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises((ConfigurationError, SystemExit)) as raised:
        train.main(["--data", data, "--output", str(tmp_path), *flags, "--dry-run"])
    assert getattr(raised.value, "code", 2) == 2
    assert complaint in capsys.readouterr().err + str(raised.value)


def test_a_complaint_leaves_the_process_with_code_2_and_no_traceback(
    data: str, tmp_path: Path, repository: Path
) -> None:
    line = [sys.executable, "jobs/train.py", "--data", data, "--output", str(tmp_path), "--image-size", "30"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    found = subprocess.run(line, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("error: --image-size 30: use a multiple of 4")
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("nodes", "workers", "each"),
    [
        ([16], 4, 3),
        ([2], 1, 1),
        ([2], 2, 0.5),
        ([1], 1, 0.5),
        ([1], 3, 0.166),
        ([4], 3, 1),
        ([4, 4, 4], 1, 4),
        ([16, 2, 2], 2, 7),  # an even share of all CPUs would fit once
        ([], 2, 0.25),
    ],
)
def test_workers_leave_a_cpu_for_reading(nodes: list[float], workers: int, each: float) -> None:
    assert worker_cpus(nodes, workers) == each


def test_gpus_are_awaited_only_where_an_autoscaler_may_add_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "train")
    fixed, scaling = Cluster(8, 1), Cluster(0, 0, scales=True)
    with pytest.raises(ConfigurationError, match="needs 4 GPUs; this cluster has 1"):
        choose_gpu("cuda", 4, fixed)
    assert choose_gpu("auto", 1, fixed)
    assert not choose_gpu("auto", 4, fixed)
    assert not caplog.records
    assert choose_gpu("cuda", 4, scaling)
    assert "waiting for the autoscaler's nodes" in caplog.text
    assert not choose_gpu("auto", 4, scaling)
    assert "--device cuda asks the autoscaler" in caplog.text
