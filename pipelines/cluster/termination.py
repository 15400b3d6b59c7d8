"""SIGTERM, as Kubernetes, systemd, `timeout` and `ray job stop` send it: a job ends in order, within their patience."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

#: Seconds that the main thread has for its way out. Kubernetes kills what is still there after 30.
PATIENCE = 10.0

_came = threading.Event()


def came() -> bool:
    """Whether SIGTERM has come. An exception of its own would not tell: Ray makes a new one of what interrupts it."""
    return _came.is_set()


def interrupt_at_sigterm(end: Callable[[], object]) -> None:
    """Let SIGTERM raise KeyboardInterrupt in the main thread, as Ctrl-C does.

    end: called in another thread where the process is still there after PATIENCE seconds: a main thread that waits in
    C code, for a Ray that is gone, say, hears of no signal. Call this in the main thread.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _raise)
    threading.Thread(target=_watch, args=(reading, end), name="termination", daemon=True).start()


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the way out
    _came.set()
    raise KeyboardInterrupt


def _watch(reading: int, end: Callable[[], object]) -> None:
    while signal.SIGTERM not in os.read(reading, 64):
        pass
    time.sleep(PATIENCE)
    end()
