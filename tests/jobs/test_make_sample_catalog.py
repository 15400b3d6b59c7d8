import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.make_sample_catalog import main
from model.errors import ConfigurationError
from pipelines.contracts.schemas import CATALOG, REFERENCE


@pytest.mark.ray
def test_a_catalog_is_drawn_and_replaced_only_when_asked(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "sample"
    command = ["--output", str(output), "--images", "4", "--training-photos", "2", "--reference-images", "1"]
    command += ["--seed", "8"]
    assert main(command) == 0
    told = capsys.readouterr().out
    for kind, rows in (("catalog", 4), ("truth", 4), ("reference", 1), ("photos", 2)):
        assert f"{rows} rows  {output / kind}" in told
        assert pq.read_table(output / kind).num_rows == rows
    assert pq.read_schema(output / "catalog" / "part-00000.parquet").names == CATALOG.names
    assert pq.read_schema(output / "reference" / "part-00000.parquet").names == REFERENCE.names
    summary = json.loads((output / "sample.json").read_text())
    assert summary["settings"]["seed"] == 8
    assert summary["rows"] == {"catalog": 4, "truth": 4, "reference": 1, "photos": 2}

    first = (output / "catalog" / "part-00000.parquet").read_bytes()
    with pytest.raises(ConfigurationError, match=r"--output: .*catalog.* already; .*--overwrite"):
        main(command)
    stale, foreign = output / "catalog" / "part-00099.parquet", output / "notes.txt"
    stale.write_bytes(b"")
    foreign.write_text("mine")
    assert main([*command, "--overwrite"]) == 0
    assert not stale.exists()
    assert foreign.read_text() == "mine"
    assert (output / "catalog" / "part-00000.parquet").read_bytes() == first


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "sample"
    assert main(["--output", str(output), "--images", "1000", "--dry-run"]) == 0
    configuration = json.loads(capsys.readouterr().out)
    assert configuration["settings"] == {
        "images": 1000,
        "photos": 500,
        "reference": 500,
        "seed": 0,
        "broken": 0.005,
    }
    assert configuration["plan"] == {"parts": 48, "replaces": []}
    assert not output.exists()


def test_wrong_commands_are_refused_before_any_work(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigurationError, match=r"--output .*: is a file"):
        main(["--output", str(file)])
    with pytest.raises(ConfigurationError, match="--images"):
        main(["--output", str(tmp_path / "new"), "--images", "-3"])
    with pytest.raises(SystemExit) as caught:
        main(["--images", "3"])
    assert caught.value.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_storage_that_does_not_answer_is_one_message(dead_s3: None) -> None:
    with pytest.raises(ConfigurationError, match="--output: cannot read s3://b/x"):
        main(["--output", "s3://b/x", "--dry-run"])
