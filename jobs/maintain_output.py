"""Maintain the output of jobs/correct_catalog.py: go back to an earlier night, remove what no night needs, erase ids.

Without --apply nothing is changed: the job prints what it would do.

    python jobs/maintain_output.py rollback --output s3://shop/corrected --apply
    python jobs/maintain_output.py clean --output s3://shop/corrected --keep-runs 7 --apply
    python jobs/maintain_output.py erase --output s3://shop/corrected --image-id 4711 4712 --apply

rollback  The manifest of an earlier run becomes the current one, with the images that it names. --to names that run, a
          folder of OUTPUT/manifests; by default the one that the current manifest replaced. OUTPUT/changes gets a file
          that consumers begin anew with. The next night goes on from there: with the model and the settings of that
          run it corrects only what has changed since; with others it corrects again what they decide. --to with the
          current run publishes its kept manifest again if OUTPUT/manifest is not equal to it.
clean     All but the last --keep-runs manifests are removed, and then the images that no manifest names: those that
          later runs superseded, and those of runs that were killed. The current manifest always stays, and after
          a rollback what it replaced.
erase     The images of these ids are removed, from all nights. Their rows become `failed` with the code `erased`, here
          and in every later night, for as long as they are in the catalog (OUTPUT/erased.parquet remembers keys of the
          ids). Ids, URIs and hashes stay in OUTPUT/changes, runs and labels; versions of the bucket's objects are
          yours to remove. An id of which nothing is there is refused: it may be mistyped. For an upload of today add
          --allow-unknown, and no night will correct it. After a run was killed, wait a minute.

A run that was killed while it published is first completed. A rollback or an erasure that changes the current manifest
drops what a killed run had finished.
All three hold the lock of OUTPUT, and can be given again after whatever ended them. Needs no Ray.

Exit codes: 0 done; 1 broke off: give the same command again, unless the manifest to return to, or an image of it, is
gone; 2 wrong command line, or another run is at work, nothing was changed; 130 interrupted (Ctrl-C), 143 terminated
(SIGTERM).
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Protocol

from jobs import command
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.maintenance.clean import clean, plan_clean
from pipelines.maintenance.erase import erase, plan_erasure
from pipelines.maintenance.rollback import plan_rollback, roll_back
from pipelines.maintenance.run import Output
from pipelines.published.publish import unfinished
from pipelines.storage.lock import Lock, locked

ROLLBACK, CLEAN, ERASE = "rollback", "clean", "erase"
#: Flags that only one verb has, and whether it needs them.
_FLAGS = {
    "to": (ROLLBACK, False),
    "keep_runs": (CLEAN, True),
    "image_id": (ERASE, True),
    "allow_unknown": (ERASE, False),
}


class _Described(Protocol):
    def describe(self) -> list[str]:
        """Return lines for people."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = command.Parser("maintain_output.py", description=__doc__, formatter_class=command.HelpFormatter)
    p.add_argument("verb", choices=(ROLLBACK, CLEAN, ERASE), help="what to do, see above")
    p.add_argument(
        "--output", required=True, type=command.destination, metavar="URI", help="output of a correction"
    )
    p.add_argument(
        "--apply", action="store_true", help="do it; without this flag, only print what would be done"
    )
    p.add_argument(
        "--to",
        metavar="RUN",
        help="rollback: run to return to (default: the one whose manifest the current one replaced)",
    )
    p.add_argument(
        "--keep-runs",
        type=command.positive,
        metavar="N",
        help="clean: number of the last manifests that stay",
    )
    p.add_argument(
        "--image-id", nargs="+", action="extend", metavar="ID", help="erase: ids, as the catalog writes them"
    )
    p.add_argument(
        "--allow-unknown", action="store_true", help="erase: also ids of which no manifest has a row"
    )
    command.add_lock(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Maintain an output and return the exit code. Raises CatalogRepairError for what the user must change."""
    arguments = parser().parse_args(argv)
    _check(arguments)
    output = storage.absolute(arguments.output)
    with storage.impatient():
        Output.look(output)  # before the lock, which would make the folder
    with locked(output, arguments.break_lock, arguments.wait_for_lock) as lock:
        first = [] if arguments.apply else _before(output)
        found = _do(arguments, output, lock) if arguments.apply else _plan(arguments, output)
    end = "done" if arguments.apply else "nothing was changed: --apply does it"
    sys.stdout.write("\n".join([*first, *found.describe(), end]) + "\n")
    return command.EXIT_OK


def _check(arguments: argparse.Namespace) -> None:
    """Raise ConfigurationError for a flag of another verb, and for one that is missing."""
    for name, (verb, is_needed) in _FLAGS.items():
        flag, given = f"--{name.replace('_', '-')}", getattr(arguments, name) not in (None, False)
        if given and arguments.verb != verb:
            raise ConfigurationError(f"{flag} is for {verb}, not for {arguments.verb}; leave it out")
        if not given and is_needed and arguments.verb == verb:
            raise ConfigurationError(f"{verb} needs {flag}")


def _plan(arguments: argparse.Namespace, output: str) -> _Described:
    if arguments.verb == ROLLBACK:
        return plan_rollback(output, arguments.to)
    if arguments.verb == CLEAN:
        return plan_clean(output, arguments.keep_runs)
    return plan_erasure(output, arguments.image_id, arguments.allow_unknown)


def _before(output: str) -> list[str]:
    """Return a line for a publication that was interrupted."""
    run = unfinished(output)
    if run is None:
        return []
    return [f"first      the publication of {run} is completed; what follows is as if that were not so"]


def _do(arguments: argparse.Namespace, output: str, lock: Lock) -> _Described:
    if arguments.verb == ROLLBACK:
        return roll_back(output, arguments.to, lock)
    if arguments.verb == CLEAN:
        return clean(output, arguments.keep_runs, lock)
    return erase(output, arguments.image_id, lock, arguments.allow_unknown)


if __name__ == "__main__":
    command.run(main)
