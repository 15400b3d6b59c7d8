"""SIGTERM, as Kubernetes, systemd, `timeout` and `ray job stop` send it: a job ends at once, in its own words.

At once, because there is a race to win: where Ray's processes on this machine get the signal too, Ray ends this process
with code 1 as soon as it misses one of them. An exception in the main thread would be too slow for that, and would not
be heard of at all in C code. So a thread ends the process. What a job has written is whole at any time.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_came = threading.Event()
#: What a job still does when SIGTERM comes: while it holds its locks, and when it has left them.
_acts: list[Callable[[], object]] = []
_last_acts: list[Callable[[], object]] = []


def end_at_sigterm(end: Callable[[], object]) -> None:
    """Call `end` in a thread of its own when the first SIGTERM comes; it must end the process.

    Call this in the main thread.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _note)
    threading.Thread(target=_watch, args=(reading, end), name="termination", daemon=True).start()


@contextlib.contextmanager
def at_sigterm(act: Callable[[], object], last: Callable[[], object]) -> Iterator[None]:
    """If SIGTERM comes inside the block, call `act` before the job's locks are left, and `last` behind its last line.

    Both are called in another thread, beside a main thread that is at work, and have seconds.
    """
    _acts.append(act)
    _last_acts.append(last)
    try:
        yield
    finally:
        leave_to_it()
        _acts.remove(act)
        _last_acts.remove(last)


def act(last: bool) -> None:
    """Call what `at_sigterm` has registered; an error of it is left out: the process ends anyway."""
    for one in list(_last_acts if last else _acts):
        with contextlib.suppress(Exception):
            one()


def too_late() -> None:
    """Ignore SIGTERM from here on: the job is done, and the process ends anyway."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def leave_to_it() -> None:
    """Return only where no SIGTERM has come; else the thread that ends the process has the last word."""
    while _came.is_set():
        threading.Event().wait()


def _note(number: int, frame: FrameType | None) -> None:
    _came.set()


def _watch(reading: int, end: Callable[[], object]) -> None:
    while signal.SIGTERM not in os.read(reading, 64):
        pass
    end()
