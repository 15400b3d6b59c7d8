"""Training on a cluster of two nodes, one of which is lost and comes back."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.training.checkpoints import Checkpoints
from tests import ray_nodes
from tests.processes import wait_until
from tests.ray_nodes import NOTICE_SOON, RayNode
from tests.training_data import write_dataset

pytestmark = pytest.mark.ray

FLAGS = [
    *("--image-size", "32", "--batch-size", "2", "--width", "4", "--blocks", "1", "--validate-every", "0"),
    *("--log-every", "1", "--workers", "1:2", "--precision", "float32", "--shuffle-rows", "8"),
    *("--checkpoint-every", "5", "--steps", "100000"),
]
#: jobs/train.py, but it looks for new nodes every few seconds instead of every minute.
TRAIN = """
from jobs import command, train
from pipelines.training import on_ray

on_ray.RESIZE_SECONDS = 3
command.run(train.main)
"""


@pytest.fixture
def nodes() -> Iterator[list[RayNode]]:
    """Nodes, which are killed afterwards; the head is the first, and has room for one worker only."""
    started = [RayNode(cpus=1, settings=NOTICE_SOON)]
    yield started
    for node in reversed(started):
        node.kill()


def test_training_goes_on_without_a_lost_node_and_takes_a_new_one(
    nodes: list[RayNode], tmp_path: Path, repository: Path
) -> None:
    output = tmp_path / "run"
    checkpoints = Checkpoints(str(output / "checkpoints"), 1)

    def workers() -> int:
        """Return how many workers trained for the newest checkpoint; 0 before the first."""
        try:
            newest = checkpoints.load()
        except FileNotFoundError:  # pruned meanwhile
            return 0
        return newest[1]["position"]["workers"] if newest else 0

    address = nodes[0].address
    nodes.append(RayNode(cpus=3, address=address))
    ray_nodes.wait_for_nodes(address, 2)
    environment = {
        **ray_nodes.environment(),
        "RAY_ADDRESS": address,
        "PYTHONPATH": str(repository),
        "OMP_NUM_THREADS": "1",
        # Ray begins a worker group before it knows that a node is lost, and would give it up after a minute.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    }
    line = [sys.executable, "-c", TRAIN, "--data", str(write_dataset(tmp_path / "set")), *FLAGS]
    log = tmp_path / "log"
    with log.open("wb") as file:
        driver = subprocess.Popen(
            [*line, "--output", str(output)], cwd=repository, env=environment, stdout=file, stderr=file
        )
        try:
            wait_until(lambda: workers() == 2, driver, log, patience=600)
            nodes[1].kill()
            wait_until(lambda: workers() == 1, driver, log, patience=600)
            nodes.append(RayNode(cpus=3, address=address))
            wait_until(lambda: workers() == 2, driver, log, patience=600)
        finally:
            driver.kill()
            driver.wait()
    steps = [record["step"] for record in pq.read_table(output / "history.parquet").to_pylist()]
    assert steps == list(range(1, steps[-1] + 1))
