"""Lock an output folder for one run. A dead run's lock expires after minutes.

The storage must support "create if absent" (`storage.create_bytes`).

OUTPUT/.lock/ holds a numbered record of the run that holds the lock. Only this run rewrites it, every HEARTBEAT
seconds. To take the lock, a run creates the record with the next number, which succeeds for only one of several runs.
The highest number holds the lock. A run whose lock was broken or taken over sees that there is a higher number, or that
its own record is gone.
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
from pipelines import storage
from pipelines.storage.lock_watch import CLOCK, Clock, Watch

logger = logging.getLogger(__name__)

FOLDER = ".lock"
#: Seconds between heartbeats.
HEARTBEAT = 30.0
#: Seconds without a heartbeat after which a run counts as dead: longer than failing requests are repeated
#: (s3.PATIENCE), and longer than the clocks of machines differ.
STALE = 300.0
#: Attempts to take a lock while others take and release it.
_ATTEMPTS = 5


@dataclass(frozen=True)
class Record:
    """Describe the run that holds a lock. since, heartbeat: seconds since 1970, by the clock of its machine."""

    run: str  # unique to each run
    owner: str  # user@host
    machine: str  # see `_machine`: `pid` is only valid on this machine
    pid: int
    started: str  # start of the process, because its id may have been reused
    since: float
    heartbeat: float

    def to_json(self) -> bytes:
        """Return the content of the record's file."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    def describe(self, now: float) -> str:
        """Return a description for messages to a run that cannot have the lock."""
        since = datetime.fromtimestamp(self.since, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        return (
            f"{self.owner}, process {self.pid}, run {self.run[:8]}, since {since} ({_span(now - self.since)}), "
            f"last heartbeat {_span(now - self.heartbeat)} ago"
        )

    def is_silent(self, now: float) -> bool:
        """Return whether the run counts as dead by the two machines' clocks."""
        return now - self.heartbeat > STALE

    def has_ended(self) -> bool:
        """Return whether the run's process is known to have ended, because it was of this machine."""
        return bool(self.machine) and self.machine == _machine() and _started(self.pid) != self.started


class Lock:
    """Hold a lock, and write its heartbeats in a thread; made by `locked`."""

    def __init__(self, output: str, number: int, record: Record, waited: float = 0.0) -> None:
        self.run = record.run
        self.waited = waited  # seconds for which another run held it
        self._folder, self._number, self._record = storage.join(output, FOLDER), number, record
        self._lost: str | None = None
        self._alive = time.monotonic()  # time of the last heartbeat that was written
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="lock", daemon=True)
        self._thread.start()
        _held.add(self)

    def check(self) -> None:
        """Raise RunError if the lock is known to be lost. Asks no storage, so call it often."""
        if self._lost is None and time.monotonic() - self._alive > STALE:
            self._lost = f"no heartbeat could be written for {STALE:.0f} s"
        if self._lost is not None:
            raise RunError(
                f"the lock {self._folder} was lost: {self._lost}; nothing more is published, because another run may "
                "use this output: check that none does, and give the same command again"
            )

    def confirm(self) -> None:
        """Raise RunError unless the lock is held now. Call it before changing what readers see."""
        with contextlib.suppress(*storage.STORAGE_ERRORS):  # if the storage does not answer, `check` decides
            self._look()
        self.check()

    def beat(self) -> None:
        """Write a heartbeat if the lock is still held. Raises one of storage.STORAGE_ERRORS."""
        asked = time.monotonic()  # before reading the lock, which may be lost between reading and writing
        self._look()
        if self._lost is None:
            self._record = replace(self._record, heartbeat=time.time())
            storage.write_bytes(_uri(self._folder, self._number), self._record.to_json())
            self._alive = asked

    def release(self) -> str | None:
        """Release the lock. A failure of the storage is logged and returned as text; the lock then becomes stale."""
        self._ended.set()
        self._thread.join()
        try:
            self._look()
            if self._lost is None:  # else the records are another run's, whose numbers may have started again
                _remove_until(self._folder, self._number)
            self._lost = self._lost or "released"
            failure = None
        except (ConfigurationError, *storage.STORAGE_ERRORS) as error:  # type: ignore[misc] # a tuple of classes
            failure = f"the lock {self._folder} could not be removed: {error}"
            logger.warning("%s", failure)
        _held.discard(self)
        return failure

    def _look(self) -> None:
        numbers = _numbers(self._folder)
        highest = _read(self._folder, numbers[-1]) if numbers else None
        # Numbers start again after a release: the record of our number may be another run's.
        if self._lost is None and (highest is None or highest.run != self.run):
            self._lost = f"taken by {highest.owner}" if highest else "its record was removed"

    def _live(self) -> None:
        while self._lost is None and not self._ended.wait(HEARTBEAT):
            try:
                self.beat()
            except storage.STORAGE_ERRORS as error:
                logger.warning("cannot write the heartbeat to %s: %s", self._folder, error)


#: Locks that this process holds.
_held: set[Lock] = set()


def release_all() -> list[str]:
    """Release all locks of this process, if it ends without leaving its `locked` blocks. Return the failures."""
    with storage.impatient():
        return [failure for lock in list(_held) if (failure := lock.release())]


@contextlib.contextmanager
def locked(output: str, break_lock: bool = False, wait: float = 0.0) -> Iterator[Lock]:
    """Hold the lock of the folder `output` in the block.

    break_lock: take it even if another run holds it. wait: seconds to wait for a run that is alive, see `Watch`. Raises
    ConfigurationError if another run holds it, or if `output` cannot be written.
    """
    lock = take(output, break_lock, wait)
    try:
        yield lock
    finally:
        lock.release()


def take(output: str, break_lock: bool = False, wait: float = 0.0, clock: Clock = CLOCK) -> Lock:
    """Return the lock of `output`, which the caller releases; see `locked`."""
    folder = storage.join(output, FOLDER)
    watch = Watch(folder, wait, HEARTBEAT, STALE, clock)
    # A storage that fails for a minute must not end a long wait.
    patience = contextlib.nullcontext() if wait else storage.impatient()
    with storage.as_configuration_error(output, "--output", "write"), patience:
        attempt, may_break = 0, break_lock
        while attempt < _ATTEMPTS:
            numbers = _numbers(folder)
            holder = _read(folder, numbers[-1]) if numbers else None
            if holder is not None and not _may_take(output, holder, may_break, watch):
                watch.wait(holder.describe(time.time()))
                attempt = 0
                continue
            record = _record()  # only now: its heartbeat must be fresh
            number = _claim(folder, numbers, record)
            if number is not None:
                return Lock(output, number, record, watch.waited)
            attempt, may_break = attempt + 1, False
        storage.check_writable(output, "--output")
    raise ConfigurationError(f"--output {output}: other runs take the lock at this moment; try again")


def _may_take(output: str, holder: Record, break_lock: bool, watch: Watch) -> bool:
    """Return whether the lock may be taken from its holder now; False: wait. Raises ConfigurationError if neither."""
    now = time.time()
    watch.look((holder.run, holder.heartbeat))
    if break_lock:
        logger.warning("breaking the lock of %s: %s", output, holder.describe(now))
        return True
    # A run that can wait need not trust the other machine's clock.
    if watch.is_dead or holder.has_ended() or (not watch.patience and holder.is_silent(now)):
        logger.warning("taking over the lock of a dead run: %s", holder.describe(now))
        return True
    if not watch.is_over:
        return False
    waited = f", and was for the {watch.waited:.0f} s of waiting" if watch.waited else ""
    raise ConfigurationError(
        f"--output {output}: another run is at work there{waited}: {holder.describe(now)}; wait for it "
        "(--wait-for-lock), choose another folder, or, if you know that it has ended, add --break-lock"
    )


def _claim(folder: str, seen: list[int], record: Record) -> int | None:
    """Create the next record and return its number; None if another run was faster."""
    number = (seen[-1] if seen else 0) + 1
    try:
        if not storage.create_bytes(_uri(folder, number), record.to_json()):
            return None
    except FileNotFoundError:  # a run that ended has just removed the folder
        return None
    # Since the records were listed, other runs may have taken and released the lock, so that numbers started again. The
    # record that was seen must still be there, and none may be higher than ours.
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
    """Return a record; None if it is gone. Raises ConfigurationError for a file that is no record."""
    uri = _uri(folder, number)
    try:
        return Record(**json.loads(storage.read_bytes(uri)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{uri} is not a lock of this version; if no run uses this output, remove it"
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
    """Return the scope of process ids: this boot of this machine, and the container; "" if they are unknown."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _started(pid: int) -> str | None:
    """Return when a process of this machine started, in the kernel's ticks; None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]  # Z: the process has ended


def _span(seconds: float) -> str:
    """Return a length of time as text."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
