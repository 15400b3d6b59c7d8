"""Core time of a piece of work."""

import time
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    """Return the result of `work`, and the seconds of all cores that this process has used for it."""
    started = time.process_time()
    return work(), time.process_time() - started
