"""Ctrl-C and SIGTERM while images are being corrected."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import command
from jobs.outcome import NOTIFY_VARIABLE
from tests.catalogs import read_parquet, rows, write_bundle, write_catalog
from tests.pipelines.reports.test_webhook import SECRET, server
from tests.processes import processes_that_name, wait_until

#: Seconds that Kubernetes gives a container after SIGTERM.
GRACE = 30
#: Code with which Ray ends a job that misses one of Ray's processes, and tries: where these get the signal too, and the
#: machine has no core for the job's own end (`pipelines.cluster.termination`), Ray may come first.
RAYS_CODE, TRIES = 1, 3
GO_ON = "the same command continues this run; leave out --overwrite once it has removed the earlier one"


@pytest.mark.ray
@pytest.mark.parametrize(
    ("number", "send", "code", "words"),
    [
        (signal.SIGINT, os.kill, command.EXIT_INTERRUPTED, f"interrupted; {GO_ON}"),
        (signal.SIGTERM, os.kill, command.EXIT_TERMINATED, f"terminated; {GO_ON}"),
        # Like `timeout` and systemd, which send it to Ray's processes at the same time.
        (signal.SIGTERM, os.killpg, command.EXIT_TERMINATED, f"terminated; {GO_ON}"),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM to all"],
)
def test_an_interrupted_run_ends_with_one_line_and_leaves_what_it_wrote_whole(
    number: signal.Signals,
    send: Callable[[int, int], None],
    code: int,
    words: str,
    tmp_path: Path,
    repository: Path,
) -> None:
    # Enough images that the first are written long before the last.
    for part in range(20):
        catalog = [{**row, "image_id": f"{part}-{row['image_id']}"} for row in rows(200)]
        write_catalog(tmp_path / "catalog" / f"{part:02}.parquet", catalog, row_group_size=20)
    bundle = write_bundle(tmp_path / "bundle")
    output = tmp_path / "out"
    line = [sys.executable, "jobs/correct_catalog.py", "--catalog", str(tmp_path / "catalog"), "--no-fid"]
    line += ["--gates", "off"]  # a toy bundle's corrections pass none
    line += ["--summary", "json", "--log-format", "json"]
    line += ["--model", str(bundle), "--output", str(output), "--device", "cpu", "--actors", "1:1"]
    # A folder of its own, which identifies this Ray's processes; its path is short, because sockets are in it.
    ray_folder = tempfile.mkdtemp(prefix="ray-")
    environment = {**os.environ, "PYTHONPATH": str(repository), "RAY_TMPDIR": ray_folder}
    log, said = tmp_path / "log", tmp_path / "said"
    for _ in range(TRIES if send is os.killpg else 1):
        shutil.rmtree(output, ignore_errors=True)
        with (
            server() as (url, bodies),
            log.open("wb") as file,
            said.open("wb") as standard_output,
            subprocess.Popen(
                line,
                cwd=repository,
                env={**environment, NOTIFY_VARIABLE: url},
                stdout=standard_output,
                stderr=file,
                start_new_session=True,
            ) as process,
        ):
            wait_until(lambda: list(output.glob(".run/journal/000-*/*.parquet")), process, log)
            send(process.pid, number)
            process.wait(timeout=GRACE)
        wait_until(lambda: not processes_that_name(ray_folder))
        if process.returncode != RAYS_CODE:
            break
    # Whoever presses Ctrl-C knows.
    assert [body["state"] for body in bodies] == ["stopped"] * (number == signal.SIGTERM)
    errors = log.read_text()
    assert SECRET not in errors + said.read_text()
    assert process.returncode == code
    last = json.loads(errors.splitlines()[-1])
    assert last["message"] == words
    assert "Traceback" not in errors
    assert "SIGTERM received" not in errors, "Ray's native stack trace"
    assert not (output / ".lock").exists()
    shutil.rmtree(ray_folder)
    assert not (output / "_SUCCESS").exists()
    (record,) = (output / "runs").iterdir()
    kept = json.loads(record.read_text())
    assert (kept["state"], kept["exit_code"]) == ("stopped", code)
    assert kept["rows_in"] == 4000
    (summary,) = map(json.loads, said.read_text().splitlines())
    assert {name: summary[name] for name in ("run", "state", "exit_code", "reason", "counts")} == {
        name: kept[name] for name in ("run", "state", "exit_code", "reason", "counts")
    }
    assert last["run"] == kept["run"]
    written = read_parquet(next((output / ".run" / "journal").iterdir()))
    assert 0 < len(written) < 4000
    assert all(Path(row["output_uri"]).exists() for row in written if row["status"] == "corrected")
