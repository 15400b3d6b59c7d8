"""A preparation whose driver was killed continues when the same command is given again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.dataset
import pytest

from tests.photo_tables import record, write_table
from tests.preparation import digests, prepare
from tests.processes import PATIENCE, processes_that_name, wait_until

PHOTOS = 320


@pytest.mark.ray
def test_a_killed_preparation_goes_on_and_has_the_rows_of_one_that_was_not(
    tmp_path: Path, repository: Path
) -> None:
    rows = [record(f"p{i}", mask=None if i % 9 == 0 else record()["mask"]) for i in range(PHOTOS - 2)]
    photos = write_table(tmp_path / "photos.parquet", [*rows, record("bad", image=b"junk"), record("p1")])
    output = tmp_path / "out"
    command = [sys.executable, "jobs/prepare_dataset.py", "--photos", str(photos)]
    command += ["--output", str(output), "--max-side", "48"]
    # A folder of its own, which identifies this Ray's processes; its path is short, because sockets are in it.
    ray_folder = tempfile.mkdtemp(prefix="ray-")
    environment = {**os.environ, "PYTHONPATH": str(repository), "RAY_TMPDIR": ray_folder}
    log = tmp_path / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen(command, cwd=repository, env=environment, stdout=file, stderr=file) as process,
    ):
        wait_until(lambda: list(output.glob("work/done/*.parquet")), process, log)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=PATIENCE)
    wait_until(lambda: not processes_that_name(ray_folder))
    assert not (output / "dataset.json").exists()
    done = {path.name for path in output.glob("work/done/*.parquet")}
    assert 0 < len(done) < PHOTOS // 16, "all was done before the kill: there is nothing to show"
    made = {
        path: path.stat().st_mtime_ns
        for path in output.glob("shards/part-*.parquet")
        if f"{path.stem[5:11]}.parquet" in done
    }
    assert len(made) == len(done)

    again = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    shutil.rmtree(ray_folder, ignore_errors=True)
    assert again.returncode == 0, again.stderr
    assert '"run": "continues"' in again.stdout
    told = re.search(rf"(\d+) of {PHOTOS // 16} units are done already", again.stderr)
    assert told is not None, again.stderr
    # Perhaps more than were counted: a worker outlives its driver by a moment, and may finish its unit.
    assert len(done) <= int(told[1]) < PHOTOS // 16
    assert {path: path.stat().st_mtime_ns for path in made} == made, "what was finished was made again"
    undisturbed = prepare([photos], tmp_path / "here")
    assert digests(output / "shards") == digests(tmp_path / "here" / "shards")
    counts = json.loads((output / "dataset.json").read_text())["counts"]
    assert counts["entries"] == {
        "listed": PHOTOS,
        "prepared": PHOTOS - 2,
        "unreadable": 1,
        "duplicates": 1,
    }
    table = pyarrow.dataset.dataset(output / "shards").to_table(columns=["image_id", "defect"])
    assert len({(row["image_id"], row["defect"]) for row in table.to_pylist()}) == table.num_rows
    assert table.num_rows == sum(n for key, n in undisturbed.counts.items() if key.startswith("rows/"))
    assert not list(output.glob("work/done/*"))
    assert not list(output.glob("shards/.*"))
