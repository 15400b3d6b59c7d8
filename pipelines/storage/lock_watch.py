"""Waits for a lock that another run holds: until that run ends, or until it counts as dead.

A run counts as dead if its heartbeat does not change for `stale` seconds of the waiting process's own clock. So the
clocks of the two machines need not agree.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

#: Seconds between two looks at the lock. Each costs the storage two requests.
PAUSE = 5.0
#: Seconds between two log lines.
LOGGED_EVERY = 60.0


@dataclass(frozen=True)
class Clock:
    """now: returns seconds that never go back. pause: waits for as many seconds."""

    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] = time.sleep


CLOCK = Clock()


class Watch:
    """Watches the holder of a lock. patience: seconds to wait for a run that is alive; 0: do not wait.

    heartbeat: seconds between a living run's heartbeats. stale: seconds without one after which a run is dead.
    """

    def __init__(
        self, folder: str, patience: float, heartbeat: float, stale: float, clock: Clock = CLOCK
    ) -> None:
        self._folder, self.patience, self._heartbeat, self._stale = folder, patience, heartbeat, stale
        self._clock = clock
        self._began = self._logged = self._moved_at = clock.now()
        self._sign: object = None
        self._moves = self._waits = 0

    @property
    def waited(self) -> float:
        """Seconds of waiting so far; 0 if there was no need to wait."""
        return self._clock.now() - self._began if self._waits else 0.0

    @property
    def silence(self) -> float:
        """Seconds for which the heartbeat has not changed."""
        return self._clock.now() - self._moved_at

    def look(self, sign: object) -> None:
        """Note the holder's heartbeat: any value that differs from one to the next, and from run to run."""
        if sign != self._sign:
            self._moves += self._sign is not None
            self._sign, self._moved_at = sign, self._clock.now()

    @property
    def is_dead(self) -> bool:
        """True if the holder was silent for too long while it was watched."""
        return self._sign is not None and self.silence > self._stale

    @property
    def is_over(self) -> bool:
        """True if there is no more waiting for this holder.

        A silent one is waited for beyond `patience`, until it gives a heartbeat or is dead: otherwise a short
        patience would take a dead run for a living one.
        """
        if not self.patience:
            return True
        is_alive = self._moves > 0 and self.silence < 2 * self._heartbeat
        return self.waited >= self.patience and is_alive

    def wait(self, holder: str) -> None:
        """Wait a moment before the next look. holder: description for the log."""
        if not self._waits:
            logger.info(
                "waiting for the lock %s of another run: %s; it is taken over once that run has no heartbeat for "
                "%.0f s; a run that is alive is waited for up to %.0f s",
                *(self._folder, holder, self._stale, self.patience),
            )
        elif self._clock.now() - self._logged >= LOGGED_EVERY:
            self._logged = self._clock.now()
            logger.info(
                "still waiting for the lock %s, for %.0f s so far; its last heartbeat was %.0f s ago, and it counts "
                "as dead in %.0f s",
                *(self._folder, self.waited, self.silence, max(0.0, self._stale - self.silence)),
            )
        self._waits += 1
        self._clock.pause(PAUSE)
