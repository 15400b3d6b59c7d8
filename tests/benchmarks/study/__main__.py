"""Do the paper's claims hold on real photos? Train and score every row, one after another, and make the tables.

    python -m tests.benchmarks.study queue              # goes on where it was; days on two cores
    python -m tests.benchmarks.study status             # what is done, and the hours that it took
    python -m tests.benchmarks.study tables             # docs/study.md from the results
    python -m tests.benchmarks.study queue --small      # the machinery on drawn scenes, in minutes

The real photos are those beside the project (../shared/data); without them `queue` says so and ends, and `tables` works
from docs/study/results all the same. Data sets, checkpoints and bundles are in .work/study. `plan.py` has the rows.
"""

import argparse
import logging
import sys
from pathlib import Path

import torch

from tests.benchmarks.study import tables
from tests.benchmarks.study.datasets import MissingPhotos
from tests.benchmarks.study.places import PAGE, ROOT, Places
from tests.benchmarks.study.plan import SMALL, STUDY
from tests.benchmarks.study.queue import progress, work_off

#: Where --small works and leaves its results, unless told otherwise.
SMALL_FOLDER = ROOT / "out" / "study"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=("queue", "status", "tables"))
    p.add_argument("--small", action="store_true", help="drawn scenes and a few steps")
    p.add_argument("--work", type=Path, help="folder of data sets, checkpoints and bundles")
    p.add_argument("--results", type=Path, help="folder of results and pictures")
    p.add_argument("--only", nargs="+", default=[], metavar="ROW", help="work off these rows only")
    p.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    return p


def main() -> int:
    """Do what the command line asks and return the exit code."""
    args = parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    torch.set_num_threads(args.threads)
    study, places = (SMALL, Places(SMALL_FOLDER, SMALL_FOLDER)) if args.small else (STUDY, Places())
    places = Places(args.work or places.work, args.results or places.results)
    unknown = sorted(set(args.only) - {row.name for row in study.rows})
    if unknown:
        print(f"--only {unknown[0]}: no such row; there are {', '.join(row.name for row in study.rows)}")
        return 2
    if args.command == "queue":
        try:
            work_off(study, places, args.only)
        except MissingPhotos as reason:
            print(f"skipped: {reason}")
            return 0
    if args.command in ("queue", "status"):
        print("\n".join(progress(study, places)))
    if args.command == "tables" or args.small:
        page = PAGE if not args.small else places.results / "study.md"
        tables.write(page, places.results, study)
        print(f"tables: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
