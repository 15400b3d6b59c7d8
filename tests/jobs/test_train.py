"""jobs/train.py as a user runs it: in process, on Ray Train, dry, wrong, killed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import train
from model.bundle import load_bundle
from model.errors import ConfigurationError
from model.recipes import RECIPES
from pipelines.cluster.autoscaling import Scaling
from pipelines.cluster.session import Cluster
from pipelines.contracts.label_map import LabelMap
from pipelines.shards.source import open_source
from pipelines.training.generator.plan import Plan
from pipelines.training.on_ray import choose_gpu, feeding_tasks, worker_cpus
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
    assert bundle.config["scores_split"] == "validation"
    assert {score["n"] for score in bundle.config["scores"].values()} == {2}
    assert "photos of the training split that no step has learned from" in card
    assert (output / "bundle" / "curves.png").exists()
    history = pq.read_table(output / "history.parquet")
    assert history["step"].to_pylist() == list(range(1, steps + 1))
    assert min(history["attention_rms_type"].to_pylist()) > 0
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
def test_one_worker_with_validation_fits_on_two_cpus(data: str, tmp_path: Path, repository: Path) -> None:
    """The worker takes one CPU and its decoding task the other: validation must do without one of its own."""
    flags = [*SMALL, "--validate-every", "2", "--validation-images", "2", "--steps", "4"]
    line = ["--data", data, "--output", str(tmp_path), "--workers", "1", *flags]
    script = (
        "import ray\n"
        "ray.init(address='local', num_cpus=2, include_dashboard=False, log_to_driver=False)\n"
        "from jobs import train\n"
        f"raise SystemExit(train.main({line!r}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    measured = pq.read_table(tmp_path / "validation.parquet").to_pylist()
    # One measurement at a time: the second may be left out while the first still runs, but never all of them.
    assert {"non_white_background", "watermark", "wrong_angle"} == {row["defect"] for row in measured}
    assert {row["step"] for row in measured} <= {2, 4}
    check_outputs(tmp_path, 4)


@pytest.mark.ray
def test_two_workers_on_ray(data: str, tmp_path: Path, ray_local: None) -> None:
    assert (
        train.main(["--data", data, "--output", str(tmp_path), "--workers", "2", "--epochs", "1", *SMALL])
        == 0
    )
    check_outputs(tmp_path, 30 // 4)  # 36 training rows without two photos for validation, two workers of two


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


def test_resume_tells_what_is_different(data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    line = ["--data", data, "--output", str(tmp_path), "--workers", "0", *SMALL]
    train.main([*line, "--steps", "1"])
    caplog.set_level("WARNING", "train")
    train.resolve([*line, "--steps", "2", "--resume", "--log-every", "7", "--compile"])
    assert not [message for message in caplog.messages if message.startswith("--resume")]
    other = write_dataset(tmp_path / "other")
    (other / "dataset.json").write_text(json.dumps({"fingerprint": "e" * 64}))
    train.resolve([*line[2:], "--data", str(other), "--resume", "--rate", "1e-5", "--cycle", "3"])
    told = "\n".join(caplog.messages)
    assert "--resume: method.objective.cycle is 3.0 now, and was 10.0" in told
    assert "--resume: optimizer.rate is 1e-05 now, and was 0.0002" in told
    assert "--resume: data.fingerprint is " in told
    assert "steps" not in told
    assert "already learned from" not in told
    train.resolve([*line, "--resume", "--validation-share", "0.02"])
    assert "already learned from" not in caplog.text
    train.resolve([*line, "--resume", "--validation-share", "0.2"])
    assert "already learned from; --validation-share 0.05 keeps them apart as before" in caplog.text
    # The same networks' shapes, so the checkpoint alone would not tell.
    with pytest.raises(
        ConfigurationError, match=r"was started with .*method\.recipe proposed \(not paired_only\)"
    ):
        train.resolve([*line, "--resume", "--recipe", "paired_only"])
    with pytest.raises(ConfigurationError, match=r"method\.generator\.reduce sum \(not mean\)"):
        train.resolve([*line, "--resume", "--reduce", "mean"])
    (tmp_path / "checkpoints" / "started.json").write_text("{")
    train.resolve([*line, "--resume"])
    assert "started.json is damaged" in caplog.text


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


def test_overwrite_keeps_the_earlier_training_until_nothing_is_wrong(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["--data", data, "--output", str(tmp_path), "--workers", "0", "--steps", "1", *SMALL]
    train.main(line)
    kept = sorted(path for path in tmp_path.rglob("*") if path.is_file())

    def refuse(plan: Plan) -> Plan:
        raise ConfigurationError("sources equal targets")

    monkeypatch.setattr(train, "balanced", refuse)
    with pytest.raises(ConfigurationError, match="sources equal targets"):
        train.main([*line, "--overwrite"])
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == kept


def test_an_output_that_cannot_be_written_is_named(data: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--output: cannot write"):
        train.main(["--data", data, "--output", str(tmp_path / "file"), "--workers", "0", *SMALL])


def test_epochs_count_what_an_epoch_draws(data: str) -> None:
    line = ["--data", data, "--output", "x", "--epochs", "2", "--batch-size", "2", "--workers", "0"]
    _, plan = train.resolve([*line, "--repeat", "watermark=3", "--accumulate", "3"])
    assert plan.settings.steps == 2 * ((30 + 2 * 10) // 6)  # two of twelve photos are kept for validation
    assert train.resolve([*line, "--sampler", "balanced"])[1].settings.steps == 30
    assert train.resolve([*line, "--validation-share", "0"])[1].settings.steps == 36


def test_recipes_have_their_own_constants_and_take_overrides(data: str) -> None:
    line = ["--data", data, "--output", "x", "--workers", "2:4", "--recipe"]
    method = train.resolve([*line, "paired_only"])[1].settings.method
    assert (method.objective.cycle, method.objective.reconstruction) == (0, 150)
    args, plan = train.resolve([*line, "proposed", "--cycle", "3", "--set", "discriminator.n_layers=2"])
    assert (plan.settings.method.objective.cycle, plan.settings.method.discriminator.n_layers) == (3, 2)
    assert plan.workers == args.workers == (2, 4)


@pytest.mark.parametrize(
    ("cycle_groups", "flags", "expected"),
    [
        ((), [], ()),  # as --benchmark paired4 writes: the paper's lambda 3 and 4 are 0 there
        (("angle", "background"), [], ("angle", "background")),
        (("angle",), ["--geometric-groups", "angle"], ("angle",)),
        (None, [], ("background",)),
        (None, ["--geometric-groups"], ("angle", "background")),
    ],
)
def test_the_label_map_says_which_pairs_take_cycle_and_identity(
    cycle_groups: tuple[str, ...] | None,
    flags: list[str],
    expected: tuple[str, ...],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "train")
    folder = write_dataset(tmp_path / "set")
    label_map = replace(LabelMap.default(), cycle_groups=cycle_groups)
    (folder / "label_map.yaml").write_text(label_map.to_yaml())
    line = ["--data", str(folder), "--output", "x", "--workers", "0", *SMALL, *flags]
    assert sorted(train.resolve(line)[1].settings.cycle_groups) == sorted(expected)
    assert ("label_map.yaml has no cycle_groups" in caplog.text) == (cycle_groups is None)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_passes_its_trial_on_one_image(recipe: str, data: str) -> None:
    small = ["--image-size", "32", "--width", "4", "--workers", "0"]
    method = train.resolve(["--data", data, "--output", "x", "--recipe", recipe, *small])[1].settings.method
    assert (method.recipe, method.generator.width) == (recipe, 4)


def test_deep_discriminators_do_not_matter_where_there_are_none(data: str) -> None:
    line = ["--data", data, "--output", "x", "--image-size", "32", "--adversarial", "0"]
    train.resolve([*line, "--set", "discriminator.n_layers=6", "objective.cycle=3"])


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
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["method"]["generator"]["width"] == 12
    assert shown["settings"]["cycle_groups"] == ["background"]
    assert shown["rows"]["watermark"] == {"pairs": 10, "unpaired": 0, "validation": 2, "test": 4}
    assert shown["validation"]["chosen_by"] == "l1"  # two photos are too few for FID
    assert shown["validation"]["images"]["watermark"] == {"sources": 2, "targets": 2, "pairs": 2}
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--workers", "-1"], "argument --workers"),
        (["--steps", "0"], "argument --steps"),
        (["--recipe", "magic"], "argument --recipe"),
        (["--device", "cuda", "--workers", "0"], "--device cuda was asked for"),
        (["--directions", "forward"], "cycle weight must be 0"),
        (["--geometry", "affine", "--geometric-groups"], "--geometry affine: name the groups with"),
        (["--repeat", "watermark=0"], "--repeat watermark=0: use DEFECT=N"),
        (["--init-from", "/nowhere"], "--init-from: cannot read /nowhere: it does not exist"),
        (["--image-size", "30"], "a multiple of 4"),
        (["--workers", "4:2"], "argument --workers"),
        (["--recipe", "no_labels", "--geometry", "affine"], "recipe no_labels has no use for"),
        (["--set", "width=3"], "--set width=3: use PART.NAME=VALUE"),
        (["--set", "objective.cycle=abc"], "--set objective.cycle=abc: objective.cycle takes a number"),
        (["--set", "objective.cycle=Infinity"], "objective.cycle takes a number"),
        (["--set", "objective.cycle=null"], "objective.cycle takes a number"),
        (["--set", "discriminator.width=1.5"], "discriminator.width takes a whole number"),
        (["--set", "discriminator.width=true"], "discriminator.width takes a whole number"),
        (["--set", "generator.head=2"], "generator.head takes a word"),
        (["--set", 'generator.geometric_groups=["a"]'], "generator.geometric_groups takes a list of whole"),
        (["--set", "generator.depth=2"], "no use for depth (generator)"),
        (["--image-size", "32", "--set", "discriminator.n_layers=6"], "a discriminator with n_layers 6"),
        (
            ["--image-size", "32", "--recipe", "pix2pix", "--set", "generator.n_downsamplings=6"],
            "a generator with n_downsamplings 6",
        ),
        (["--flip", "wrong_angle"], "--flip wrong_angle: its group is in --geometric-groups"),
        (["--batch-size", "99"], "fewer than one update of 1 x 99"),
        (["--ema", "1.5"], "ema is 1.5"),
        (["--validation-share", "0.6"], "--validation-share 0.6: a share from 0 to 0.5"),
        (["--validation-share", "nan"], "--validation-share nan: a share from 0 to 0.5"),
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


@pytest.mark.parametrize(
    ("cpus", "workers", "each", "tasks"),
    # The last: nodes were lost, and with them all that the workers had left.
    [(2, 1, 1, 1), (16, 4, 3, 1), (8, 4, 2, 1), (9, 2, 1, 3), (1, 2, 1, 1)],
)
def test_decoding_has_as_many_tasks_as_the_workers_leave_cpus(
    cpus: float, workers: int, each: float, tasks: int
) -> None:
    assert feeding_tasks(cpus, workers, each) == tasks


def test_gpus_are_awaited_only_where_an_autoscaler_may_add_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fixed, scaling = Cluster(8, 1), Cluster(0, 0, scaling=Scaling())
    with pytest.raises(ConfigurationError, match="needs 4 GPUs; this cluster has 1"):
        choose_gpu("cuda", 4, fixed)
    assert choose_gpu("auto", 1, fixed)
    assert not choose_gpu("auto", 4, fixed)
    assert not caplog.records
    assert choose_gpu("cuda", 4, scaling)
    assert "waiting for the autoscaler's nodes" in caplog.text
    assert not choose_gpu("auto", 4, scaling)
    assert "--device cuda asks the autoscaler" in caplog.text
