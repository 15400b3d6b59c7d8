"""The nightly job: `ray job submit` to a cluster with a job server, here a head of its own on loopback."""

import json
import re
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ray_nodes
from tests.catalogs import read_parquet, rows, write_bundle, write_catalog
from tests.ray_nodes import BIN, RayNode

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def head() -> Iterator[RayNode]:
    """Return a head with a job server."""
    node = RayNode(dashboard=True)
    try:
        node.wait_for_job_server()
        yield node
    finally:
        node.kill()


@pytest.fixture(scope="module")
def cluster(head: RayNode) -> tuple[str, dict[str, str]]:
    """Address of the job server, and the environment for calling it."""
    return head.job_server, ray_nodes.environment()


def counted(head: RayNode) -> Counter[str]:
    """Return the images by status that the head's metrics endpoint reports."""
    counts: Counter[str] = Counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{head.metrics_port}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("ray_catalog_repair_images_total{"):
                (status,) = re.findall(r'status="(\w+)"', line)
                counts[status] += round(float(line.rpartition(" ")[2]))
    return counts


def test_a_submitted_job_corrects_a_catalog_and_its_metrics_stay(
    head: RayNode, cluster: tuple[str, dict[str, str]], repository: Path, tmp_path: Path
) -> None:
    address, environment = cluster
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(10))
    write_bundle(tmp_path / "bundle")
    places = {"--catalog": "catalog", "--output": "out", "--model": "bundle"}
    flags = [text for flag, name in places.items() for text in (flag, str(tmp_path / name))]
    submit = [BIN / "ray", "job", "submit", "--address", address, "--working-dir", ".", "--"]
    job = ["python", "jobs/correct_catalog.py", *flags, "--no-fid", "--gates", "off"]
    done = subprocess.run(
        [*submit, *job], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = [row["status"] for row in read_parquet(tmp_path / "out" / "manifest")]
    assert sorted(statuses) == ["corrected"] * 8 + ["passthrough"] * 2
    assert counted(head) == {"corrected": 8, "passthrough": 2, "rejected": 0, "failed": 0}
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


def test_a_relative_output_is_refused_because_it_would_go_with_the_job(
    cluster: tuple[str, dict[str, str]], repository: Path, tmp_path: Path
) -> None:
    address, environment = cluster
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(1))
    submit = [BIN / "ray", "job", "submit", "--address", address, "--working-dir", ".", "--"]
    job = [
        "python",
        "jobs/correct_catalog.py",
        "--catalog",
        str(tmp_path / "catalog"),
        "--output",
        "out/corrected",
    ]
    done = subprocess.run(
        [*submit, *job], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "error: argument --output: 'out/corrected' lies in the copy of --working-dir" in done.stdout
    assert "code 2" in done.stdout + done.stderr
