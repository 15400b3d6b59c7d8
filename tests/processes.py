"""Lists processes and waits for conditions, for tests that kill processes or check for remaining ones."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

#: Seconds in which Ray starts, or a job makes its next step, even on a busy machine.
PATIENCE = 300


def wait_until(
    condition: Callable[[], Any],
    process: "subprocess.Popen[Any] | None" = None,
    log: Path | None = None,
    patience: float = PATIENCE,
    pause: float = 0.02,
) -> None:
    """Return as soon as the condition holds. Raises AssertionError if it does not hold in time.

    process: its earlier end is a failure, too. log: a file whose end goes into the error. patience: seconds to wait.
    pause: seconds between two checks.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended too early, with {process.returncode}:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition did not hold within {patience:g} s:\n{_tail(log)}")
        time.sleep(pause)


def command_line(pid: int) -> str:
    """Return a process's command line, or the title that it has set; empty if it has just ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def running() -> list[int]:
    """Return the ids of all processes of this machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def processes_that_name(folder: str) -> list[str]:
    """Return the command lines in which `folder` occurs."""
    return [line[:200] for line in map(command_line, running()) if folder in line]


def descendants(pid: int) -> Iterator[int]:
    """Yield the ids of the processes below `pid`, from /proc."""
    parents: dict[int, int] = {}
    for process in running():
        with contextlib.suppress(OSError, IndexError):  # the process has just ended
            stat = Path(f"/proc/{process}/stat").read_text()
            parents[process] = int(stat.rpartition(")")[2].split()[1])
    wanted = [pid]
    while wanted:
        parent = wanted.pop()
        children = [child for child, of in parents.items() if of == parent]
        yield from children
        wanted += children


def ray_workers(pids: Iterable[int], *words: str) -> list[int]:
    """Return those of `pids` that are Ray's workers and whose title (what runs in them) has one of `words`."""
    return [
        pid
        for pid in pids
        if (line := command_line(pid)).startswith("ray::") and any(word in line for word in words)
    ]


def _tail(log: Path | None) -> str:
    return log.read_text(errors="replace")[-2000:] if log is not None and log.exists() else ""
