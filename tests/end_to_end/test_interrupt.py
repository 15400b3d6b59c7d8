"""Ctrl-C while images are being corrected."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jobs import command
from tests.catalogs import read_parquet, rows, write_bundle, write_catalog
from tests.processes import PATIENCE, processes_that_name, wait_until


@pytest.mark.ray
def test_an_interrupted_run_ends_with_one_line_and_leaves_what_it_wrote_whole(
    tmp_path: Path, repository: Path
) -> None:
    # So many that the first ones are written long before the last.
    for part in range(20):
        catalog = [{**row, "image_id": f"{part}-{row['image_id']}"} for row in rows(200)]
        write_catalog(tmp_path / "catalog" / f"{part:02}.parquet", catalog, row_group_size=20)
    bundle = write_bundle(tmp_path / "bundle")
    output = tmp_path / "out"
    line = [sys.executable, "jobs/correct_catalog.py", "--catalog", str(tmp_path / "catalog"), "--no-fid"]
    line += ["--gates", "off"]  # a toy bundle's corrections pass none
    line += ["--model", str(bundle), "--output", str(output), "--device", "cpu", "--actors", "1:1"]
    # A folder of its own, so that this Ray's processes can be told from others'; short, because sockets lie in it.
    ray_folder = tempfile.mkdtemp(prefix="ray-")
    environment = {**os.environ, "PYTHONPATH": str(repository), "RAY_TMPDIR": ray_folder}
    with subprocess.Popen(
        line, cwd=repository, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: list(output.glob(".run/journal/000-*/*.parquet")), process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == command.EXIT_INTERRUPTED
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    wait_until(lambda: not processes_that_name(ray_folder))
    shutil.rmtree(ray_folder)
    assert not (output / "_SUCCESS").exists()
    written = read_parquet(next((output / ".run" / "journal").iterdir()))
    assert 0 < len(written) < 4000
    assert all(Path(row["output_uri"]).exists() for row in written if row["status"] == "corrected")
