import json
from pathlib import Path

import pytest

from jobs import command
from jobs.train_detector import main
from model.errors import ConfigurationError
from pipelines.training.checkpoints import Checkpoints
from tests.catalogs import write_detector
from tests.training_data import write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data") / "data"))


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "--data",
        data,
        "--output",
        str(tmp_path / "run"),
        "--epochs",
        "3",
        "--batch-size",
        "4",
        "--dry-run",
    ]
    assert (
        main([*flags, "--image-size", "32", "--backbone", "resnet18", "--encoder-weights", "none"])
        == command.EXIT_OK
    )
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["detector"] == {
        "backbone": "resnet18",
        "freeze_norms": False,
        "labels": ["wrong_angle", "watermark", "non_white_background"],
    }
    pairs = sum(rows["pairs"] + rows["unpaired"] for rows in shown["rows"].values())
    held_back = sum(rows["validation"] for rows in shown["rows"].values())
    assert held_back == 3 * 3  # p0, p12 and p13 by their hashes
    assert pairs + held_back == 36
    assert shown["settings"]["validation_share"] == 0.1
    assert shown["settings"]["steps"] == 3 * (pairs // 4)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--image-size", "16"], "--image-size"),
        (["--overlay", "2"], "--overlay"),
        (["--label-precision", "1.5"], "--label-precision"),
        (["--batch-size", "1000"], "--batch-size"),
        (["--init-from", "nowhere"], "--init-from"),
        (["--device", "cuda", "--workers", "0"], "--device cuda"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_written(
    flags: list[str], complaint: str, data: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        main(["--data", data, "--output", str(tmp_path / "run"), "--image-size", "32", *flags])
    assert not (tmp_path / "run").exists()


def test_a_training_in_the_output_is_kept_or_continued_as_it_was(data: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    flags = [
        "--data",
        data,
        "--output",
        str(output),
        "--workers",
        "0",
        "--image-size",
        "32",
        "--batch-size",
        "2",
    ]
    assert main([*flags, "--steps", "1"]) == command.EXIT_OK
    with pytest.raises(ConfigurationError, match="--resume continues it"):
        main([*flags, "--steps", "2"])
    with pytest.raises(ConfigurationError, match=r"detector\.backbone tf_efficientnet_lite0"):
        main([*flags, "--steps", "2", "--resume", "--backbone", "resnet18", "--encoder-weights", "none"])
    assert main([*flags, "--steps", "2", "--resume"]) == command.EXIT_OK
    assert Checkpoints(str(output / "checkpoints"), 2).steps() == [1, 2]
    card = (output / "bundle" / "model_card.md").read_text()
    assert "trained for 2 steps" in card
    assert str(tmp_path) not in card


def test_overwriting_spares_what_is_read(data: str, tmp_path: Path) -> None:
    start = write_detector(tmp_path / "run" / "bundle", {"watermark": 0.0})
    flags = ["--data", data, "--output", str(tmp_path / "run"), "--image-size", "32", "--batch-size", "2"]
    with pytest.raises(ConfigurationError, match="--overwrite would remove"):
        main([*flags, "--init-from", str(start), "--overwrite"])
