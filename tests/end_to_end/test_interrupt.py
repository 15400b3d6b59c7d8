"""Ctrl-C while images are being corrected."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import command
from tests.catalogs import read_parquet, rows, write_bundle, write_catalog

#: Seconds within which Ray starts and the first images are written, on a machine that is busy.
PATIENCE = 180


@pytest.mark.ray
def test_an_interrupted_run_ends_with_one_line_and_leaves_what_it_wrote_whole(
    tmp_path: Path, repository: Path
) -> None:
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(400), row_group_size=20)
    bundle = write_bundle(tmp_path / "bundle")
    output = tmp_path / "out"
    line = [sys.executable, "jobs/correct_catalog.py", "--catalog", str(tmp_path / "catalog"), "--no-fid"]
    line += ["--model", str(bundle), "--output", str(output), "--device", "cpu", "--actors", "1:1"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    with subprocess.Popen(
        line, cwd=repository, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + PATIENCE
        while not list(output.glob("manifest/*.parquet")):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline, "no image was corrected"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == command.EXIT_INTERRUPTED
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert not (output / "_SUCCESS").exists()
    written = read_parquet(output / "manifest")
    assert 0 < len(written) < 400
    assert all(Path(row["output_uri"]).exists() for row in written if row["status"] == "corrected")
