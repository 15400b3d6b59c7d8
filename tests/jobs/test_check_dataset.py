"""jobs/check_dataset.py as a user runs it: strict, dry, without Ray, wrong. On Ray: tests/pipelines/checking."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import check_dataset
from model.errors import ConfigurationError
from tests.checking_data import healthy, leaking, row, write


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("check")
    write(folder / "good", healthy())
    write(folder / "bad", [*healthy(), *leaking(), row("broken", 9, source=b"no image")])
    write(folder / "empty", [])
    return {name: str(folder / name) for name in ("good", "bad", "empty", "out")}


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    places: dict[str, str], capsys: pytest.CaptureFixture
) -> None:
    line = ["--data", places["good"], "--output", places["out"], "--dry-run"]
    assert check_dataset.main(line) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["plan"]["rows"], shown["near_duplicate_distance"]) == (6, 8)
    assert not Path(places["out"]).exists()


def test_strict_fails_with_the_counts_after_the_report_is_written(
    places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    line = ["--data", places["bad"], "--output", str(tmp_path), "--workers", "0", "--strict"]
    assert check_dataset.main(line) == 3
    said = capsys.readouterr().err
    for count in (
        "2 near-duplicates across the split",
        "1 identical images across the split",
        "1 ids on both sides of the split",
        "1 unreadable images",
    ):
        assert count in said
    assert json.loads((tmp_path / "health.json").read_text())["healthy"] is False
    assert check_dataset.main([*line[:-1], "--overwrite"]) == 0  # told, not failed


def test_ids_that_a_second_delivery_repeats_are_counted(places: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "second", healthy()[:2])
    line = ["--data", places["good"], str(tmp_path / "second"), "--output", str(tmp_path), "--workers", "0"]
    assert check_dataset.main(line) == 0
    assert json.loads((tmp_path / "health.json").read_text())["notes"]["repeated (image_id, defect)"] == 2


def test_without_ray_it_runs_where_ray_is_not_installed(
    places: dict[str, str], tmp_path: Path, repository: Path
) -> None:
    """Ray's import fails in this process, as on a machine that has none."""
    line = ["--data", places["good"], "--output", str(tmp_path), "--workers", "0", "--strict"]
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "from jobs import check_dataset, command\n"
        f"command.run(lambda _: check_dataset.main({line!r}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert f"page      {tmp_path}/index.html" in found.stdout


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--data", "{out}"], "--data {out}: no shards/*.parquet there"),
        (["--data", "{empty}"], "--data: no rows in {empty}"),
        (
            ["--data", "{good}", "--near-duplicate-distance", "12"],
            "--near-duplicate-distance must be 0..11 bits",
        ),
    ],
)
def test_a_wrong_input_is_one_clear_message(flags: list[str], complaint: str, places: dict[str, str]) -> None:
    given = [flag.format(**places) for flag in flags]
    with pytest.raises(ConfigurationError) as found:
        check_dataset.main([*given, "--output", places["out"]])
    assert complaint.format(**places) in str(found.value)
