"""jobs/evaluate.py as a user runs it: without Ray, dry, wrong. On Ray: tests/end_to_end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import evaluate
from model.errors import ConfigurationError
from tests.catalogs import write_bundle
from tests.training_data import write_dataset


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("evaluate")
    write_dataset(folder / "set", photos=16)
    write_dataset(folder / "small", photos=3)  # none of them in the test split
    write_bundle(folder / "run" / "bundle")
    write_bundle(folder / "other")
    (folder / "done").mkdir()
    (folder / "done" / "table.md").write_text("earlier")
    return {name: str(folder / name) for name in ("set", "small", "run", "other", "done", "out")}


def line(places: dict[str, str], *flags: str) -> list[str]:
    bundles = [f"{places['run']}/bundle", places["other"]]
    return ["--data", places["set"], "--bundle", *bundles, "--output", places["out"], *flags]


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    places: dict[str, str], capsys: pytest.CaptureFixture
) -> None:
    assert evaluate.main(line(places, "--samples", "3", "--no-fid", "--dry-run")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert list(shown["bundles"]) == ["other", "run"]
    assert shown["plan"]["rows"]["watermark"] == {"test": 4, "test_pairs": 4, "train": 12}
    assert shown["plan"]["rows_read"] == 9
    assert not Path(places["out"]).exists()


def test_without_ray_it_runs_where_ray_is_not_installed(
    places: dict[str, str], tmp_path: Path, repository: Path
) -> None:
    """Ray's import fails in this process, as on a machine that has none."""
    output = str(tmp_path / "out")
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "from jobs import command, evaluate\n"
        f"command.run(lambda _: evaluate.main({[*line(places), '--workers', '0', '--no-fid', '--output', output]!r}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "## watermark" in found.stdout
    assert f"tables    {output}/table.md" in found.stdout
    assert (tmp_path / "out" / "_SUCCESS").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--data", "{set}/"], "--data {set} is named twice; name each dataset once"),
        (["--data", "{out}"], "--data {out}: no shards/*.parquet there"),
        (["--bundle", "{set}"], "--bundle {set}: no model bundle at {set}: cannot read config.json"),
        (["--bundle", "{out}"], "--bundle: cannot read {out}: it does not exist; check the path"),
        (["--bundle", "{other}"], "--bundle {other} is named twice"),
        (["--output", "{done}"], "--output {done} holds table.md of an earlier evaluation"),
        (["--device", "cuda", "--workers", "0"], "--device cuda was asked for"),
    ],
)
def test_a_wrong_input_is_one_clear_message(
    flags: list[str], complaint: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    given = [flag.format(**places) for flag in flags]
    with pytest.raises(ConfigurationError) as found:
        evaluate.main([*line(places), "--no-fid", *given, "--dry-run"])
    assert complaint.format(**places) in str(found.value)


def test_data_without_a_test_split_is_one_clear_message(places: dict[str, str]) -> None:
    given = ["--data", places["small"], "--bundle", places["other"], "--output", places["out"], "--no-fid"]
    with pytest.raises(ConfigurationError, match="--data: no row has split 'test'"):
        evaluate.main([*given, "--dry-run"])


def test_data_may_be_named_in_one_flag_or_in_several(
    places: dict[str, str], capsys: pytest.CaptureFixture
) -> None:
    evaluate.main(line(places, "--data", places["small"], "--no-fid", "--dry-run"))
    shown = json.loads(capsys.readouterr().out)
    assert shown["data"] == [places["set"], places["small"]]
    assert shown["plan"]["rows"]["watermark"] == {"test": 4, "test_pairs": 4, "train": 15}


@pytest.mark.parametrize("flags", [["--samples", "0"], ["--workers", "-1"], ["--device", "tpu"]])
def test_a_wrong_flag_ends_with_code_2(
    flags: list[str], places: dict[str, str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as found:
        evaluate.main(line(places, *flags))
    assert found.value.code == 2
    assert f"argument {flags[0]}" in capsys.readouterr().err


def test_as_a_process_a_wrong_input_is_one_line_and_code_2(places: dict[str, str], repository: Path) -> None:
    found = subprocess.run(
        [sys.executable, "jobs/evaluate.py", *line(places, "--fid-weights", "/nowhere")],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr.startswith("error: --fid-weights: cannot read /nowhere: it does not exist; ")
    assert found.stderr.count("\n") == 1
