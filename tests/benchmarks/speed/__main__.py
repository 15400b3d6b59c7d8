"""How fast is it? One table of ratios, each to something that anybody can run, all from one run on this machine.

    python -m tests.benchmarks.speed [--output speed.json]
    python -m tests.benchmarks.speed --only steps fid

Each part runs in a process of its own, one after the other. Figures are only worth something on a machine that does
nothing else: half an hour on two cores. --small takes minutes and says nothing about speed; it shows that all parts
run.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path

from pipelines.correction.report.run_report import versions
from tests.benchmarks.machine import machine
from tests.benchmarks.speed import (
    beside_generator,
    fid_distance,
    fid_features,
    generator,
    growth,
    job,
    loading,
    start_up,
    training,
)
from tests.benchmarks.speed.ratio import Ratio

#: What each part measures, by name; True asks for the small version.
PARTS: dict[str, Callable[[bool], list[Ratio]]] = {
    "steps": beside_generator.ratios,
    "job": job.ratios,
    "fid-job": fid_features.ratios,
    "generator": generator.ratios,
    "fid": fid_distance.ratios,
    "training": training.ratios,
    "loading": loading.ratios,
    "growth": growth.ratios,
    "start": start_up.ratios,
}
HEADER = "| what | against | ratio | aim |\n| --- | --- | --- | --- |\n"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    p.add_argument("--small", action="store_true", help="few images and rounds")
    p.add_argument("--output", type=Path, help="JSON file for all figures, with facts about the machine")
    arguments = p.parse_args()
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    record = {"at": datetime.now(timezone.utc).isoformat(), "small": arguments.small, "machine": machine()}
    record |= {"versions": versions(), "ratios": [], "seconds": {}}
    sys.stdout.write(f"{json.dumps(record['machine'])}\n\n{HEADER}")
    for name in arguments.only:
        started = time.perf_counter()
        for ratio in _apart(PARTS[name], arguments.small):
            record["ratios"].append({"part": name, **asdict(ratio), "reached": ratio.reached})
            sys.stdout.write(f"| {' | '.join(ratio.cells())} |\n")
        record["seconds"][name] = round(time.perf_counter() - started)
        sys.stdout.flush()
        if arguments.output:  # after every part, so that an interrupted run is not lost
            arguments.output.write_text(json.dumps(record, indent=2) + "\n")


def _apart(measure: Callable[[bool], list[Ratio]], small: bool) -> list[Ratio]:
    """Return what a part measures, in a new process: its threads and caches are its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, small).result()


if __name__ == "__main__":
    main()
