"""Lock an output folder for one run. A dead run's lock expires after minutes.

The storage must support "create if absent" (`storage.objects.create_bytes`).

OUTPUT/.lock/ holds a numbered record of who is at work, rewritten every HEARTBEAT seconds by its own run and by nobody
else. Who takes the lock creates the next number: one of several does. The highest number holds the lock, so a run whose
lock was broken, or that was silent for so long that its lock was taken over, finds a higher one, or its own gone.
"""

import contextlib
import getpass
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from model.errors import ConfigurationError, RunError
from pipelines.storage import objects as storage
from pipelines.storage.lock_watch import CLOCK, Clock, Watch

logger = logging.getLogger(__name__)

FOLDER = ".lock"
#: Seconds between signs of life.
HEARTBEAT = 30.0
#: Seconds without one after which a run counts as dead: longer than a storage's failures are sat out (s3.PATIENCE), and
#: than clocks of machines differ.
STALE = 300.0
#: Looks at a lock that others take and leave meanwhile.
_ATTEMPTS = 5


@dataclass(frozen=True)
class Record:
    """Who holds a lock. since, heartbeat: seconds since 1970, by the holder's clock."""

    run: str  # a number of its own for every run
    owner: str  # user@host
    machine: str  # tells whether `pid` means anything here; "" where the system does not say
    pid: int
    started: str  # of the process: its id may be another's by now
    since: float
    heartbeat: float

    def to_json(self) -> bytes:
        """The object's content."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    def describe(self, now: float) -> str:
        """For the one who must wait."""
        since = datetime.fromtimestamp(self.since, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        return (
            f"{self.owner}, process {self.pid}, run {self.run[:8]}, since {since} ({_span(now - self.since)}), "
            f"last sign of life {_span(now - self.heartbeat)} ago"
        )

    def is_stale(self, now: float) -> bool:
        """True where the run is dead: silent for too long, or a process of this machine that is gone."""
        if now - self.heartbeat > STALE:
            return True
        return bool(self.machine) and self.machine == _machine() and _started(self.pid) != self.started


class Lock:
    """A lock that is held; made by `locked`."""

    def __init__(self, output: str, number: int, record: Record, waited: float = 0.0) -> None:
        self.run = record.run
        self.waited = waited  # seconds for which another run held it
        self._folder, self._number, self._record = storage.join(output, FOLDER), number, record
        self._lost: str | None = None
        self._alive = time.monotonic()  # at the last sign of life that was written
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="lock", daemon=True)
        self._thread.start()
        _held.add(self)

    def check(self) -> None:
        """Raise RunError where the lock is known to be lost. Costs nothing: call it often."""
        if self._lost is None and time.monotonic() - self._alive > STALE:
            self._lost = f"no sign of life could be written for {STALE:.0f} s"
        if self._lost is not None:
            raise RunError(
                f"the lock {self._folder} was lost: {self._lost}; nothing more is published, because another run may "
                "be at work there: see that none is, and give the same command again"
            )

    def confirm(self) -> None:
        """Raise RunError unless the lock is held now; call it before what readers see is changed."""
        with contextlib.suppress(*storage.STORAGE_ERRORS):  # what is not known is decided by `check`
            self._look()
        self.check()

    def beat(self) -> None:
        """Write a sign of life, if the lock is still held. Raises one of storage.STORAGE_ERRORS."""
        asked = time.monotonic()  # before the look: what happens between it and the writing counts as silence
        self._look()
        if self._lost is None:
            self._record = replace(self._record, heartbeat=time.time())
            storage.write_bytes(_uri(self._folder, self._number), self._record.to_json())
            self._alive = asked

    def release(self) -> str | None:
        """Leave the lock to others. A storage that fails is logged, and returned as text: the lock will be stale."""
        self._ended.set()
        self._thread.join()
        try:
            self._look()
            if self._lost is None:  # else what is there is another's, who may even have begun to count anew
                _remove_until(self._folder, self._number)
            left = None
        except (ConfigurationError, *storage.STORAGE_ERRORS) as error:  # type: ignore[misc] # a tuple of classes
            left = f"the lock {self._folder} could not be removed: {error}"
            logger.warning("%s", left)
        _held.discard(self)
        return left

    def _look(self) -> None:
        numbers = _numbers(self._folder)
        highest = _read(self._folder, numbers[-1]) if numbers else None
        # Numbers begin anew in a folder that was left: ours may be another run's by now.
        if self._lost is None and (highest is None or highest.run != self.run):
            self._lost = f"taken by {highest.owner}" if highest else "somebody removed it"

    def _live(self) -> None:
        while self._lost is None and not self._ended.wait(HEARTBEAT):
            try:
                self.beat()
            except storage.STORAGE_ERRORS as error:
                logger.warning("no sign of life could be written to %s: %s", self._folder, error)


#: What this process holds.
_held: set[Lock] = set()


def release_all() -> list[str]:
    """Leave every lock that this process holds, for one that ends without the way out of its blocks.

    Return what could not be removed.
    """
    with storage.impatient():
        return [left for lock in list(_held) if (left := lock.release())]


@contextlib.contextmanager
def locked(output: str, break_lock: bool = False, wait: float = 0.0) -> Iterator[Lock]:
    """Hold the lock of the folder `output` inside the block.

    break_lock: take it from whoever holds it now. wait: seconds to wait for a run that is alive, see `Watch`. Raises
    ConfigurationError where another run holds it, or `output` cannot be written.
    """
    lock = take(output, break_lock, wait)
    try:
        yield lock
    finally:
        lock.release()


def take(output: str, break_lock: bool = False, wait: float = 0.0, clock: Clock = CLOCK) -> Lock:
    """The lock of `output`, to be released by the caller; see `locked`."""
    folder = storage.join(output, FOLDER)
    watch = Watch(folder, wait, HEARTBEAT, STALE, clock)
    # A storage that fails for a minute must not end a long wait.
    patience = contextlib.nullcontext() if wait else storage.impatient()
    with storage.as_configuration_error(output, "--output", "write"), patience:
        attempt = 0
        while attempt < _ATTEMPTS:
            numbers = _numbers(folder)
            holder = _read(folder, numbers[-1]) if numbers else None
            if holder is not None and not _may_take(output, holder, break_lock and not attempt, watch):
                watch.wait(holder.describe(time.time()))
                continue
            record = _record()  # only now: its sign of life must be fresh
            number = _claim(folder, numbers, record)
            if number is not None:
                return Lock(output, number, record, watch.waited)
            attempt += 1
        storage.check_writable(output, "--output")
    raise ConfigurationError(f"--output {output}: other runs are taking the lock just now; try again")


def _may_take(output: str, holder: Record, break_lock: bool, watch: Watch) -> bool:
    """Return whether the lock may be taken from its holder now; False: wait. Raises ConfigurationError if neither."""
    now = time.time()
    watch.look((holder.run, holder.heartbeat))
    if break_lock:
        logger.warning("breaking the lock of %s: %s", output, holder.describe(now))
        return True
    if watch.is_dead or holder.is_stale(now):
        logger.warning("taking over the lock of a run that is dead: %s", holder.describe(now))
        return True
    if not watch.is_over:
        return False
    waited = f", and was for the {watch.waited:.0f} s of waiting" if watch.waited else ""
    raise ConfigurationError(
        f"--output {output}: another run is at work there{waited}: {holder.describe(now)}; wait for it "
        "(--wait-for-lock), choose another folder, or, if you know that it has ended, add --break-lock"
    )


def _claim(folder: str, seen: list[int], record: Record) -> int | None:
    """The number under which the lock is ours now; None where somebody was faster."""
    number = (seen[-1] if seen else 0) + 1
    try:
        if not storage.create_bytes(_uri(folder, number), record.to_json()):
            return None
    except FileNotFoundError:  # the folder was removed between its making and its use, by a run that ended
        return None
    # Between the look and the claim others may have come and gone, and numbers begun anew: what was seen must still be
    # there, and nothing higher.
    numbers = _numbers(folder)
    if numbers[-1:] != [number] or not set(seen[-1:]) <= set(numbers):
        storage.remove(_uri(folder, number))
        return None
    _remove_until(folder, number - 1)
    return number


def _numbers(folder: str) -> list[int]:
    names = (uri.rsplit("/", 1)[-1].removesuffix(".json") for uri in storage.list_files(folder, ".json"))
    return sorted(int(name) for name in names if name.isdecimal())


def _uri(folder: str, number: int) -> str:
    return storage.join(folder, f"{number:06}.json")


def _read(folder: str, number: int) -> Record | None:
    """A record; None where it is gone. Raises ConfigurationError for what is none."""
    uri = _uri(folder, number)
    try:
        return Record(**json.loads(storage.read_bytes(uri)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{uri} is no lock of this version; if no run is at work there, remove it"
        ) from error


def _remove_until(folder: str, last: int) -> None:
    for number in _numbers(folder):
        if number <= last:
            storage.remove(_uri(folder, number))
    if storage.is_local(folder):
        with contextlib.suppress(OSError):  # not empty
            Path(storage.resolve(folder)[1]).rmdir()


def _record() -> Record:
    now = time.time()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    owner = f"{user}@{platform.node()}"
    return Record(uuid.uuid4().hex, owner, _machine(), os.getpid(), _started(os.getpid()) or "", now, now)


def _machine() -> str:
    """What process ids belong to: this boot of this machine, and the container; "" where the system does not say."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _started(pid: int) -> str | None:
    """When a process of this machine began, in the kernel's ticks; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]  # a zombie only waits to be counted


def _span(seconds: float) -> str:
    """A length of time for people."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
