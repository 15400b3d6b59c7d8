"""The nightly way: `ray job submit` to a cluster with a job server, here a head of its own on loopback."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.catalogs import read_parquet, rows, write_bundle, write_catalog

pytestmark = pytest.mark.ray

BIN = Path(sys.executable).parent
START_SECONDS = 180


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, dict[str, str]]]:
    """Address of the job server and the environment in which to call it."""
    # Not tmp_path: names of Unix sockets below it must stay under 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ray-head-"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",  # loopback, and no token of this user's is read or written
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    ports = _free_ports(8)
    flags = [
        *("--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}"),
        *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--object-store-memory={200 << 20}"),
        *(f"--port={ports[0]}", f"--dashboard-port={ports[1]}", f"--ray-client-server-port={ports[2]}"),
        *(f"--dashboard-agent-listen-port={ports[3]}", f"--dashboard-agent-grpc-port={ports[4]}"),
        *(
            f"--metrics-export-port={ports[5]}",
            f"--node-manager-port={ports[6]}",
            f"--object-manager-port={ports[7]}",
        ),
    ]
    log = folder / "head.log"
    with log.open("wb") as output:
        head = subprocess.Popen(
            [BIN / "ray", "start", *flags],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{ports[1]}"
    try:
        _wait_for(f"{address}/api/version", head, log)
        yield address, environment
    finally:
        _stop(head)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_submitted_job_corrects_a_catalog(
    cluster: tuple[str, dict[str, str]], repository: Path, tmp_path: Path
) -> None:
    address, environment = cluster
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(10))
    write_bundle(tmp_path / "bundle")
    places = {"--catalog": "catalog", "--output": "out", "--model": "bundle"}
    flags = [text for flag, name in places.items() for text in (flag, str(tmp_path / name))]
    submit = [BIN / "ray", "job", "submit", "--address", address, "--working-dir", ".", "--"]
    job = ["python", "jobs/correct_catalog.py", *flags, "--no-fid"]
    done = subprocess.run(
        [*submit, *job], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = [row["status"] for row in read_parquet(tmp_path / "out" / "manifest")]
    assert sorted(statuses) == ["corrected"] * 8 + ["passthrough"] * 2
    assert len(list((tmp_path / "out" / "images").rglob("*.jpg"))) == 8
    assert json.loads((tmp_path / "out" / "run.json").read_text())["state"] == "complete"
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert str(tmp_path / "out" / "report" / "index.html") in done.stdout


def test_a_submitted_job_with_a_mistake_fails_with_one_message(
    cluster: tuple[str, dict[str, str]], repository: Path, tmp_path: Path
) -> None:
    address, environment = cluster
    submit = [BIN / "ray", "job", "submit", "--address", address, "--working-dir", ".", "--"]
    job = [
        "python",
        "jobs/correct_catalog.py",
        "--catalog",
        str(tmp_path / "gone"),
        "--output",
        str(tmp_path / "out"),
    ]
    write_bundle(tmp_path / "bundle")
    done = subprocess.run(
        [*submit, *job, "--model", str(tmp_path / "bundle")],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout.count("error: --catalog") >= 1
    assert "code 2" in done.stdout + done.stderr


def _wait_for(url: str, head: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and head.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)  # between two looks; the deadline decides
    raise RuntimeError(f"the Ray head did not start:\n{log.read_text()}")


def _stop(head: "subprocess.Popen[bytes]") -> None:
    """End the head and all that it started: they share its session. A graceful stop would drain for 30 s."""
    for process in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process) == head.pid:
                os.kill(process, signal.SIGKILL)
    head.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        found = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in found]
