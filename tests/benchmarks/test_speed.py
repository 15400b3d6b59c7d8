"""The table of speed: all parts run, and its lines say what they measured. Nothing here says how fast anything is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.speed import growth
from tests.benchmarks.speed.ratio import Ratio
from tests.benchmarks.test_scale import figures as grown


def test_a_line_says_whether_its_aim_is_reached() -> None:
    assert Ratio("a", "b", 1.256, 1.2).cells() == ("a", "b", "1.26", "≥ 1.2")
    assert Ratio("a", "b", 1.256, 1.2, at_most=True).cells() == ("a", "b", "1.26", "≤ 1.2: missed")
    assert Ratio("a", "b", 1.2, 1.2).reached is Ratio("a", "b", 1.2, 1.2, at_most=True).reached is True
    assert Ratio("a", "b", 1.0).cells()[-1] == ""


def test_growth_is_told_from_slopes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "measure", lambda rows, images: grown(rows))
    found = {ratio.what: ratio for ratio in growth.ratios(small=False)}
    [time] = [ratio for what, ratio in found.items() if what.startswith("time per further image")]
    assert (time.value, time.reached) == (pytest.approx(1.0), True)  # 2 ms for each row, at every size
    [hours] = [ratio for what, ratio in found.items() if what.startswith("hours of the driver")]
    assert hours.value == pytest.approx(
        0.250 / 4 * 554_000 / 3600
    )  # 250 rows to a block, 1 ms of the driver for each
    [again] = [ratio for what, ratio in found.items() if "nothing to do" in what]
    assert (again.value, again.reached) == (pytest.approx(200), True)  # 2 ms against 10 µs


@pytest.mark.ray
def test_every_part_without_a_long_job_prints_its_lines_and_writes_them(
    tmp_path: Path, repository: Path
) -> None:
    file = tmp_path / "speed.json"
    line = [sys.executable, "-m", "tests.benchmarks.speed", "--small", "--output", str(file)]
    parts = ["steps", "generator", "fid", "training", "loading", "start"]
    shown = subprocess.run(
        [*line, "--only", *parts], cwd=repository, check=True, capture_output=True, text=True
    )
    record = json.loads(file.read_text())
    assert list(record["seconds"]) == parts
    assert {one["part"] for one in record["ratios"]} == set(parts)
    assert all(one["value"] > 0 for one in record["ratios"])
    assert record["machine"]["cores"]
    assert record["versions"]["torch"]
    assert shown.stdout.count("| ") > 4 * len(record["ratios"])
