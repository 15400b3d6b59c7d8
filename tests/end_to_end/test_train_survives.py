"""Training on a real local Ray: killed workers, a killed driver, losses that explode."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.multiprocessing as mp

from jobs import train
from pipelines import storage
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.decoding import TrainingError
from tests.pipelines.training import gloo_training
from tests.training_data import write_dataset

pytestmark = pytest.mark.ray

#: Enough that no kill comes after the end, wherever this runs.
STEPS = 40
FLAGS = [
    *("--image-size", "32", "--batch-size", "2", "--width", "4", "--blocks", "1", "--validate-every", "0"),
    *("--log-every", "1", "--workers", "2", "--precision", "float32", "--crop", "--shuffle-rows", "8"),
]
DEADLINE = 300


def upload(folder: Path, uri: str) -> str:
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        storage.write_bytes(storage.join(uri, str(file.relative_to(folder))), file.read_bytes())
    return uri


def until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for the condition while the process lives."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, "the training ended too early"
        assert time.monotonic() < end, "the training makes no progress"
        time.sleep(0.05)


def descendants(pid: int) -> Iterator[int]:
    """Processes below `pid`, from /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):  # it has just ended
                continue
    wanted = [pid]
    while wanted:
        parent = wanted.pop()
        children = [child for child, of in parents.items() if of == parent]
        yield from children
        wanted += children


def train_workers(pid: int) -> list[int]:
    """Ray Train's worker processes of a driver."""
    found = []
    for child in descendants(pid):
        try:
            name = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if name.startswith("ray::") and "TrainWorker" in name:
            found.append(child)
    return found


def test_a_killed_worker_and_a_killed_driver_leave_no_trace_in_the_losses(
    s3_folder: str, tmp_path: Path, repository: Path
) -> None:
    """Data on two storages; SIGKILL of a worker, then of the driver, then --resume: as if nothing had been."""
    first = str(write_dataset(tmp_path / "first"))
    second = upload(write_dataset(tmp_path / "second", photos=8), f"{s3_folder}/second")
    output = tmp_path / "run"
    flags = ["--data", first, second, *FLAGS, "--steps", str(STEPS), "--checkpoint-every", "2"]
    line = [sys.executable, "jobs/train.py", *flags, "--output", str(output), "--resume"]
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    checkpoints = Checkpoints(str(output / "checkpoints"), 1)

    def newest() -> int:
        return max(checkpoints.steps(), default=0)

    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen(line, cwd=repository, env=environment, stdout=log, stderr=log)
        try:
            until(lambda: newest() >= 4, driver)
            victim = train_workers(driver.pid)[-1]
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in train_workers(driver.pid), driver)
            reached = newest()
            until(lambda: newest() > reached, driver)
        finally:
            driver.kill()
            driver.wait()
    assert newest() < STEPS
    assert not (output / "bundle").exists()
    # A process and a Ray of its own again: the session's Ray may be older than the S3 server and not know of it.
    subprocess.run(line, cwd=repository, env=environment, check=True, capture_output=True, timeout=DEADLINE)
    assert (output / "bundle" / "config.json").exists()

    mp.spawn(gloo_training.run, (2, str(tmp_path), flags), nprocs=2)
    expected = torch.load(tmp_path / "records.pt")
    found = pq.read_table(output / "history.parquet").to_pylist()
    assert [record["step"] for record in found] == list(range(1, STEPS + 1))
    for record, other in zip(found, expected, strict=True):
        for name in ("epoch", "rate", "total", "discriminator"):
            assert record[name] == pytest.approx(other[name], rel=1e-3), (record["step"], name)


def test_exploding_losses_end_all_workers_at_once(tmp_path: Path, ray_local: None) -> None:
    data = str(write_dataset(tmp_path / "set"))
    flags = [*FLAGS, "--steps", "50", "--rate", "1e25", "--output", str(tmp_path / "run")]
    with pytest.raises(TrainingError, match=r"stopped at step \d+: the \w+ .*not finite|is (nan|inf)"):
        train.main(["--data", data, *flags])
