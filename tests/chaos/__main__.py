"""Correct a drawn catalog through kills and faults, and print a ledger of every row.

    python -m tests.chaos --rows 2000
    python -m tests.chaos --rows 200 --only driver --seed 7

Exit code 0: nothing lost, nothing doubled, every file as in an undisturbed run. 1: there is a discrepancy; the ledger
names it, and --folder keeps catalog, outputs and logs.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.ledger import Entry, as_json, table
from tests.chaos.scenarios import ALL
from tests.chaos.stage import Stage, start_head


def main() -> int:
    """Play the scenarios and return the exit code."""
    arguments = _parser().parse_args()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="chaos-"))
    entries: list[Entry] = []
    head = start_head()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through `finally`
    try:
        stage = Stage.draw(folder, str(folder), arguments.rows, arguments.seed, head)
        for name in [name for name in ALL if name in ("undisturbed", *arguments.only)]:
            for entry in ALL[name](stage):
                entries.append(entry)
                _report(entry)
                (folder / "ledger.json").write_text(as_json(entries))
            if stage.first.undisturbed is None:
                break  # there is no run to compare with
    finally:
        head.kill()
    sys.stdout.write(table(entries))
    if all(entry.clean for entry in entries):
        if not arguments.folder:
            shutil.rmtree(folder)
        return 0
    sys.stdout.write(f"catalog, outputs, logs and ledger.json are in {folder}\n")
    return 1


def _report(entry: Entry) -> None:
    verdict = "as it must be" if entry.clean else "DISCREPANCY"
    lines = [f"{entry.scenario}: {verdict}, {entry.seconds:.0f} s", *entry.events, *entry.complaints]
    sys.stderr.write("\n  ".join(lines) + "\n")


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--rows", type=int, default=2000, help="of the catalog")
    p.add_argument(
        "--seed", type=int, default=0, help="of the catalog, and of the moments of the disturbances"
    )
    p.add_argument(
        "--only", nargs="+", choices=ALL, default=list(ALL), help="scenarios beside the undisturbed run"
    )
    p.add_argument(
        "--folder", help="for catalog, outputs, logs and ledger.json (default: removed when all is well)"
    )
    return p


if __name__ == "__main__":
    sys.exit(main())
