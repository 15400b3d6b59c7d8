"""Progress of a run: a bar on a terminal, a line now and then everywhere else."""

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

logger = logging.getLogger(__name__)

#: Seconds between lines of a log.
INTERVAL = 10.0


class Progress:
    """Counts rows against `total` and shows rate, failures and the time left. Use as a context manager.

    stream: where a bar goes if it is a terminal; otherwise lines are logged every INTERVAL seconds, and one
    at the end. clock: seconds, monotonic.
    """

    def __init__(
        self, title: str, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Show nothing yet."""
        self._title, self._total, self._clock = title, total, clock
        self.done = self.failed = 0
        self._before = 0  # rows that an earlier run had done
        self._told = -1  # rows done at the last line
        self._started = self._shown = clock()
        self._first: tuple[float, int] | None = None  # when the first rows were done, and how many
        self._bar = tqdm(total=total, desc=title, unit="image", file=stream) if stream.isatty() else None

    def resume(self, rows: int) -> None:
        """Begin with `rows` that an earlier run had done: they count, but not for the rate."""
        self.done = self._before = rows
        if self._bar is not None:
            self._bar.initial = rows
            self._bar.reset()
            self._bar.update(rows)

    def update(self, rows: int, failed: int = 0) -> None:
        """Add `rows` that are done, `failed` of them failures."""
        self.done += rows
        self.failed += failed
        if self._first is None:
            self._first = self._clock(), self.done
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self.failed} failed", refresh=False)
            self._bar.update(rows)
        elif self._clock() - self._shown >= INTERVAL:
            self._log()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self.done != self._told:
            self._log()

    def _log(self) -> None:
        self._shown, self._told = self._clock(), self.done
        rate = (self.done - self._before) / max(self._shown - self._started, 1e-9)
        logger.info(
            "%s: %d of %d images, %.1f images/s, %d failed%s",
            *(self._title, self.done, self._total, rate, self.failed, self._left()),
        )

    def _left(self) -> str:
        """Time left, from the pace since the first rows: before them everything had to start."""
        begun, before = self._first or (self._shown, self.done)
        if self.done == before or self.done >= self._total:
            return ""
        return f", {(self._total - self.done) * (self._shown - begun) / (self.done - before):.0f} s left"
