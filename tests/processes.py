"""What processes there are, and waiting for what they do: for tests that kill some, or look at what is left behind."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

#: Seconds within which Ray starts, or a job makes its next step, on a machine that is busy.
PATIENCE = 300


def wait_until(
    condition: Callable[[], Any],
    process: "subprocess.Popen[Any] | None" = None,
    log: Path | None = None,
    patience: float = PATIENCE,
    pause: float = 0.02,
) -> None:
    """Return when the condition holds.

    process: whose end, before that, is a failure. log: what to show then. patience: seconds until it is one as well.
    pause: seconds between two looks. Raises AssertionError.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended too early, with {process.returncode}:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise AssertionError(f"what was awaited for {patience:g} s did not come:\n{_tail(log)}")
        time.sleep(pause)


def command_line(pid: int) -> str:
    """The command line of a process, or the title that it gave itself; empty where it has just ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def running() -> list[int]:
    """All processes of this machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def processes_that_name(folder: str) -> list[str]:
    """Command lines of processes in which `folder` occurs."""
    return [line[:200] for line in map(command_line, running()) if folder in line]


def descendants(pid: int) -> Iterator[int]:
    """Processes below `pid`, from /proc."""
    parents: dict[int, int] = {}
    for process in running():
        with contextlib.suppress(OSError, IndexError):  # it has just ended
            stat = Path(f"/proc/{process}/stat").read_text()
            parents[process] = int(stat.rpartition(")")[2].split()[1])
    wanted = [pid]
    while wanted:
        parent = wanted.pop()
        children = [child for child, of in parents.items() if of == parent]
        yield from children
        wanted += children


def ray_workers(pids: Iterable[int], *words: str) -> list[int]:
    """Those of `pids` that are Ray's workers, and whose title (what runs in them) has one of `words`."""
    return [
        pid
        for pid in pids
        if (line := command_line(pid)).startswith("ray::") and any(word in line for word in words)
    ]


def _tail(log: Path | None) -> str:
    return log.read_text(errors="replace")[-2000:] if log is not None and log.exists() else ""
