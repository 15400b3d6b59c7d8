"""Runs the correction job so that it kills itself before a certain change below its output: a crash at an exact step.

    python -m tests.chaos.dying OUTPUT NUMBER RECORD jobs/correct_catalog.py --catalog …

Changes are what this process itself does to local files below OUTPUT, except the lock's heartbeat: creating, opening
for writing, renaming, removing. They are counted from 1 and written to the file RECORD. The process dies by SIGKILL
just before change NUMBER (0: never). Ray's workers, which also write, are not counted.
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

#: Python's audit events (library reference, "Audit events table") that change a file system; each names a path first.
_EVENTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
#: The lock's record is rewritten by the clock, so its changes have no fixed order among the others.
_UNCOUNTED = "/.lock"


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in _EVENTS


def main() -> None:
    """Install the counter and become the job."""
    output, number, record = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    done = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        if not _is_change(event, arguments) or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(arguments[0])
        if not path.startswith(output) or path.startswith(output + _UNCOUNTED):
            return
        done += 1
        names = [os.fsdecode(arguments[0]), *([os.fsdecode(arguments[1])] if event == "os.rename" else [])]
        description = " -> ".join(name.removeprefix(output) for name in names)
        os.write(descriptor, f"{done} {event} {description}\n".encode(errors="replace"))
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.argv = sys.argv[4:]
    sys.addaudithook(count)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
