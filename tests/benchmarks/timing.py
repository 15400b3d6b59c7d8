"""Core time of a piece of work, and peak memory of a process (Linux)."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")


def timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    """Return the result of `work`, and the seconds of all cores that this process has used for it."""
    started = time.process_time()
    return work(), time.process_time() - started


def in_turns(
    works: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> list[list[float]]:
    """Return the seconds of each work in each round, one after the other, after a round that warms up.

    clock: by default the seconds of all cores that this process has used.
    """
    measured = []
    for _ in range(rounds + 1):
        seconds = []
        for work in works:
            started = clock()
            work()
            seconds.append(clock() - started)
        measured.append(seconds)
    return measured[1:]


def peak(process: str = "self") -> float:
    """Return the peak resident memory of a process in MB, since its start or since `forget_peak`.

    `getrusage` would include the parent's. 0 for a process that has ended.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def forget_peak() -> None:
    """Let `peak` of this process count from now on."""
    Path("/proc/self/clear_refs").write_text("5")
