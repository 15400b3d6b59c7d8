"""Runs the correction job, and writes what each of its stages takes on the driver: seconds, core seconds, peak memory.

    python -m tests.benchmarks.stages FIGURES.json --catalog … --output …

The flags behind the file are those of jobs/correct_catalog.py.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs import correct_catalog
from pipelines.correction.run import Run
from tests.benchmarks.timing import forget_peak, peak


def measured(figures: dict[str, dict[str, float]]) -> None:
    """Make every stage of the next run add its figures."""
    stage = Run.stage

    @contextmanager
    def measuring(run: Run, name: str) -> Iterator[None]:
        forget_peak()
        started = time.process_time()
        with stage(run, name):
            yield
        figures[name] = {
            "seconds": run.seconds[name],
            "driver_core_seconds": time.process_time() - started,
            "driver_peak_mb": peak(),
            "blocks": run.totals.parts,
        }

    Run.stage = measuring  # type: ignore[method-assign, assignment]


def main() -> int:
    """Run the job; return its exit code."""
    figures: dict[str, dict[str, float]] = {}
    measured(figures)
    code = correct_catalog.main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps(figures))
    return code


if __name__ == "__main__":
    sys.exit(main())
