"""Seconds from the command to _SUCCESS for one image, against the start of Ray with a data set of one row."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.speed.job import REPOSITORY, write_catalog
from tests.benchmarks.speed.ratio import Ratio

RAY_ALONE = "import ray; ray.init(log_to_driver=False); ray.data.range(1).materialize()"


def ratios(small: bool) -> list[Ratio]:
    """Return the ratio of the shortest of each over some rounds."""
    rounds = 1 if small else 3
    with tempfile.TemporaryDirectory() as folder:
        catalog = Path(folder) / "catalog.parquet"
        write_catalog(catalog, 1)
        job = [sys.executable, "jobs/correct_catalog.py", "--catalog", str(catalog), "--no-fid"]
        jobs = [seconds([*job, "--output", f"{folder}/{number}"]) for number in range(rounds)]
        alone = [seconds([sys.executable, "-c", RAY_ALONE]) for _ in range(rounds)]
    figures = {"job_s": min(jobs), "ray_alone_s": min(alone)}
    what, against = "from the command to `_SUCCESS`, 1 image", "`ray.init()` and a data set of one row"
    return [Ratio(what, against, min(jobs) / min(alone), 2, at_most=True, figures=figures)]


def seconds(command: list[str]) -> float:
    """Return the wall time of a command. Raises CalledProcessError if it fails."""
    started = time.perf_counter()
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return time.perf_counter() - started
