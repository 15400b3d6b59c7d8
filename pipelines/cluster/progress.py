"""Shows a run's progress: a bar on a terminal, log lines elsewhere."""

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
    """Count rows against `total`, and show rate, failures and the time left. Use as a context manager.

    stream: gets a bar if it is a terminal; otherwise a line is logged every INTERVAL seconds and at the end. clock:
    returns monotonic seconds.
    """

    def __init__(
        self, title: str, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start at 0 rows, without showing anything yet."""
        self._title, self._total, self._clock = title, total, clock
        self.done = self.failed = 0
        self._before = 0  # rows that an earlier run had done
        self._logged = -1  # rows done at the last line
        self._started = self._logged_at = clock()
        self._first: tuple[float, int] | None = None  # time of the first update, and the rows done then
        self._bar = tqdm(total=total, desc=title, unit="image", file=stream) if stream.isatty() else None

    def resume(self, rows: int) -> None:
        """Start with `rows` that an earlier run has done: they count, but not for the rate."""
        self.done = self._before = rows
        if self._bar is not None:
            self._bar.initial = rows
            self._bar.reset()
            self._bar.update(rows)

    def update(self, rows: int, failed: int = 0) -> None:
        """Add `rows` that are done, of which `failed` have failed."""
        self.done += rows
        self.failed += failed
        if self._first is None:
            self._first = self._clock(), self.done
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self.failed} failed", refresh=False)
            self._bar.update(rows)
        elif self._clock() - self._logged_at >= INTERVAL:
            self._log()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self.done != self._logged:
            self._log()

    def _log(self) -> None:
        self._logged_at, self._logged = self._clock(), self.done
        rate = (self.done - self._before) / max(self._logged_at - self._started, 1e-9)
        logger.info(
            "%s: %d of %d images, %.1f images/s, %d failed%s",
            *(self._title, self.done, self._total, rate, self.failed, self._left()),
        )

    def _left(self) -> str:
        """Return the time left, by the rate since the first update; the time before it was start-up."""
        begun, before = self._first or (self._logged_at, self.done)
        if self.done == before or self.done >= self._total:
            return ""
        return f", {(self._total - self.done) * (self._logged_at - begun) / (self.done - before):.0f} s left"
