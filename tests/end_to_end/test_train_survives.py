"""Training on a real local Ray: killed workers, a killed driver, diverging losses."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.multiprocessing as mp

from jobs import command, train
from pipelines import storage
from pipelines.shards.reading import TrainingError
from pipelines.training.checkpoints import Checkpoints
from tests.pipelines.training import gloo_training
from tests.processes import PATIENCE, descendants, ray_workers, wait_until
from tests.training_data import write_dataset

pytestmark = pytest.mark.ray

#: Enough steps that every kill comes before the end, on any machine.
STEPS = 40
FLAGS = [
    *("--image-size", "32", "--batch-size", "2", "--width", "4", "--blocks", "1", "--validate-every", "0"),
    *("--log-every", "1", "--workers", "2", "--precision", "float32", "--crop", "--shuffle-rows", "8"),
]


def upload(folder: Path, uri: str) -> str:
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        storage.write_bytes(storage.join(uri, str(file.relative_to(folder))), file.read_bytes())
    return uri


def test_a_killed_worker_and_a_killed_driver_leave_no_trace_in_the_losses(
    s3_folder: str, tmp_path: Path, repository: Path
) -> None:
    """Data on two storages; after SIGKILL of a worker, then of the driver, --resume gives the same training."""
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

    def train_workers() -> list[int]:
        return ray_workers(descendants(driver.pid), "TrainWorker")

    log = tmp_path / "log"
    with log.open("wb") as file:
        driver = subprocess.Popen(line, cwd=repository, env=environment, stdout=file, stderr=file)
        try:
            wait_until(lambda: newest() >= 4, driver, log)
            victim = train_workers()[-1]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: victim not in train_workers(), driver, log)
            reached = newest()
            wait_until(lambda: newest() > reached, driver, log)
        finally:
            driver.kill()
            driver.wait()
    assert newest() < STEPS
    assert not (output / "bundle").exists()
    # In a process and a Ray of its own: the session's Ray may be older than the S3 server and not know its address.
    subprocess.run(line, cwd=repository, env=environment, check=True, capture_output=True, timeout=PATIENCE)
    assert (output / "bundle" / "config.json").exists()

    mp.spawn(gloo_training.run, (2, str(tmp_path), flags), nprocs=2)
    expected = torch.load(tmp_path / "records.pt")
    found = pq.read_table(output / "history.parquet").to_pylist()
    assert [record["step"] for record in found] == list(range(1, STEPS + 1))
    for record, other in zip(found, expected, strict=True):
        for name in ("epoch", "rate", "total", "discriminator"):
            assert record[name] == pytest.approx(other[name], rel=1e-3), (record["step"], name)


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGTERM, command.EXIT_TERMINATED, "--resume"),
        (signal.SIGINT, command.EXIT_INTERRUPTED, "interrupted; the same command with --resume"),
    ],
)
def test_a_training_that_is_ended_gives_its_lock_back_and_keeps_its_checkpoints(
    number: signal.Signals, code: int, words: str, tmp_path: Path, repository: Path
) -> None:
    """Ray Train handles Ctrl-C itself, and Ray turns every exception then into a plain KeyboardInterrupt."""
    output, log = tmp_path / "run", tmp_path / "log"
    flags = [
        "--data",
        str(write_dataset(tmp_path / "set")),
        "--steps",
        "100000",
        "--checkpoint-every",
        "2",
        *FLAGS,
    ]
    line = [sys.executable, "jobs/train.py", *flags, "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    checkpoints = Checkpoints(str(output / "checkpoints"), 1)
    with (
        log.open("wb") as file,
        subprocess.Popen(line, cwd=repository, env=environment, stdout=file, stderr=file) as driver,
    ):
        wait_until(checkpoints.steps, driver, log)
        driver.send_signal(number)
        driver.wait(timeout=30)
    assert driver.returncode == code
    assert words in log.read_text().splitlines()[-1]
    assert "Traceback" not in log.read_text()
    assert not (output / ".lock").exists()
    assert checkpoints.steps()


def test_exploding_losses_end_all_workers_at_once(tmp_path: Path, ray_local: None) -> None:
    data = str(write_dataset(tmp_path / "set"))
    flags = [*FLAGS, "--steps", "50", "--rate", "1e25", "--output", str(tmp_path / "run")]
    with pytest.raises(TrainingError, match=r"stopped at step \d+: the \w+ .*not finite|is (nan|inf)"):
        train.main(["--data", data, *flags])
