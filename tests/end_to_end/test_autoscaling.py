"""Jobs on a cluster without a single CPU or GPU, whose autoscaler starts (fake) nodes for them and removes them again.

The head is started by hand and its node has no type, so only the autoscaler's configuration says that nodes may come.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import ray_nodes
from tests.catalogs import read_parquet, rows, write_bundle, write_catalog
from tests.processes import PATIENCE, wait_until
from tests.ray_nodes import RayNode
from tests.training_data import write_dataset

pytestmark = pytest.mark.ray

ROWS = 400
#: A node has room for one actor, and for the tasks that feed it.
NODE_TYPES: dict[str, ray_nodes.NodeType] = {
    "cpu_worker": (2, {"CPU": 1, "object_store_memory": ray_nodes.STORE_BYTES}),
    "gpu_worker": (1, {"CPU": 1, "GPU": 1, "object_store_memory": ray_nodes.STORE_BYTES}),
}
#: Runs an actor on a GPU. What a GPU does in it cannot be tested: the fake node only says that it has one.
ON_GPU = """
import ray.data
from model.errors import ConfigurationError
from pipelines.cluster import placement, session

class Echo:
    def __call__(self, table):
        assert ray.get_gpu_ids()
        return table

cluster = session.start()
try:
    placement.choose_placement("cuda", cluster, (2, 2), 1.0, most=2)
except ConfigurationError as error:
    print(error)
chosen = placement.choose_placement("auto", cluster, None, 1.0, most=1)
print(len(chosen.actors(ray.data.range(3), Echo, {}, batch_size=1).take_all()), "rows on", chosen.device)
"""


@pytest.fixture(scope="module")
def head() -> Iterator[RayNode]:
    """A head without CPUs, with an autoscaler."""
    node = RayNode(cpus=0, settings=ray_nodes.NOTICE_SOON, node_types=NODE_TYPES)
    try:
        ray_nodes.wait_for_nodes(node.address, 1)
        yield node
    finally:
        node.kill()


def start(head: RayNode, repository: Path, log: Path, *line: str) -> "subprocess.Popen[bytes]":
    """Start a job of this project on the cluster, with its output in `log`."""
    environment = {
        **ray_nodes.environment(),
        "RAY_ADDRESS": head.address,
        "PYTHONPATH": str(repository),
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *line], cwd=repository, env=environment, stdout=file, stderr=file
        )


def test_a_correction_gets_nodes_survives_the_loss_of_one_and_leaves_none_behind(
    head: RayNode, tmp_path: Path, repository: Path
) -> None:
    """From zero nodes to as many as the job asks for, one fewer, and back; every row once."""
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(ROWS), row_group_size=20)
    write_bundle(tmp_path / "bundle")
    output, log = tmp_path / "out", tmp_path / "log"
    flags = [
        "--catalog",
        str(tmp_path / "catalog"),
        "--output",
        str(output),
        "--model",
        str(tmp_path / "bundle"),
    ]
    flags += ["--device", "cpu", "--actors", "2:2", "--no-fid", "--gates", "off"]

    def parts() -> list[Path]:
        """Return the journal's files."""
        return list((output / ".run" / "journal").rglob("*.parquet"))

    assert not head.fake_nodes()
    job = start(head, repository, log, "jobs/correct_catalog.py", *flags)
    try:
        wait_until(parts, job, log)
        ray_nodes.kill_fake_node(head.fake_nodes()[0])  # the oldest one, which is at work
        assert sum(pq.read_metadata(part).num_rows for part in parts()) < ROWS
        assert job.wait(PATIENCE) == 0, log.read_text()
    finally:
        job.kill()
    statuses = Counter(row["status"] for row in read_parquet(output / "manifest"))
    assert statuses == {"corrected": ROWS * 4 // 5, "passthrough": ROWS // 5}
    assert "--actors 2:2: the cluster has 0 CPUs now; waiting for the autoscaler's nodes" in log.read_text()
    assert "nodes may leave before they work" in log.read_text()
    wait_until(lambda: not head.fake_nodes())


def test_a_training_waits_for_nodes_and_goes_on(head: RayNode, tmp_path: Path, repository: Path) -> None:
    output, log = tmp_path / "run", tmp_path / "log"
    flags = ["--data", str(write_dataset(tmp_path / "set")), "--output", str(output), "--workers", "1"]
    flags += ["--image-size", "32", "--width", "4", "--blocks", "1", "--batch-size", "2", "--steps", "4"]
    flags += ["--validate-every", "0", "--shuffle-rows", "8", "--precision", "float32", "--device", "cpu"]
    job = start(head, repository, log, "jobs/train.py", *flags)
    try:
        assert job.wait(PATIENCE) == 0, log.read_text()
    finally:
        job.kill()
    assert (output / "bundle" / "config.json").exists()


def test_a_gpu_is_waited_for_but_not_more_than_may_come(
    head: RayNode, tmp_path: Path, repository: Path
) -> None:
    log = tmp_path / "log"
    assert start(head, repository, log, "-c", ON_GPU).wait(PATIENCE) == 0, log.read_text()
    lines = log.read_text().splitlines()
    assert lines[-1] == "3 rows on cuda"
    assert any("--device cuda: that takes 2 GPUs" in line and "allows 1 in the" in line for line in lines)
