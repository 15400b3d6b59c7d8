"""Seconds from the command to _SUCCESS for one image, against the start of Ray with a data set of one row.

python -m tests.benchmarks.start_up [--rounds 3]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.correction_throughput import REPOSITORY, write_catalog

RAY_ALONE = "import ray; ray.init(log_to_driver=False); ray.data.range(1).materialize()"


def seconds(command: list[str]) -> float:
    """Return the wall time of a command. Raises CalledProcessError if it fails."""
    started = time.perf_counter()
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the shortest of each over some rounds, and their ratio."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=3)
    rounds = p.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        catalog = Path(folder) / "catalog.parquet"
        write_catalog(catalog, 1)
        job = [sys.executable, "jobs/correct_catalog.py", "--catalog", str(catalog), "--no-fid"]
        jobs = [seconds([*job, "--output", f"{folder}/{number}"]) for number in range(rounds)]
        alone = [seconds([sys.executable, "-c", RAY_ALONE]) for _ in range(rounds)]
    sys.stdout.write(
        f"one image: {min(jobs):.1f} s; Ray with one row: {min(alone):.1f} s; ratio {min(jobs) / min(alone):.2f}\n"
    )


if __name__ == "__main__":
    main()
