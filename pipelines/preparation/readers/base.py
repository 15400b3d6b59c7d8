"""Code that all readers share: the protocol, notes, and the check for repeated texts."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from model.errors import ConfigurationError
from pipelines.preparation.entries import Entry

logger = logging.getLogger(__name__)

#: Number of names that a note gives as examples; all are counted.
EXAMPLES = 20
#: Texts that are held until they are compared with the earlier ones.
_FRESH = 1 << 16


class Notes:
    """Discrepancies noticed while listing: logged, never an error. Their number does not grow with the images."""

    def __init__(self) -> None:
        self._notes: list[str] = []

    def add(self, note: str) -> None:
        """Log and keep a note, unless it is already there."""
        if note not in self._notes:
            logger.warning("%s", note)
            self._notes.append(note)

    def all(self) -> list[str]:
        """Return the notes so far."""
        return list(self._notes)


class Counted:
    """A count that keeps the first few names, for a note."""

    def __init__(self) -> None:
        self.count = 0
        self._names: list[str] = []

    def add(self, name: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self._names) < EXAMPLES:
            self._names.append(name)

    def __str__(self) -> str:
        more = f" and {self.count - len(self._names)} more" if self.count > len(self._names) else ""
        return ", ".join(self._names) + more


class Reader(Protocol):
    """One source of entries. `name` is for messages: it gives the flag and what is read."""

    @property
    def name(self) -> str: ...

    def check(self) -> None:
        """Check what is cheap to check. Raises ConfigurationError if the source is absent, empty or unfit."""

    def describe(self) -> dict[str, Any]:
        """Describe the source for --dry-run, with counts if they cost no pass over the data. Call `check` first."""

    def entries(self, notes: Notes) -> Iterator[Entry]:
        """Yield all entries, in an order that depends on the data alone. Raises ConfigurationError."""


class NoRepeats:
    """Raises an error if a text is repeated.

    Holds a 64-bit hash of each: 8 bytes (16 while it merges). Among ten million texts, two different ones are mistaken
    for equal in three of a million runs. A repetition may be noticed some ten thousand texts later, at the latest by
    `finish`.

    complain: makes the error from the `name` that was given to `add`.
    """

    def __init__(self, complain: Callable[[str], ConfigurationError]) -> None:
        self._complain = complain
        self._seen = np.empty(0, np.uint64)  # sorted
        self._fresh: dict[int, str] = {}

    def add(self, text: str, name: str) -> None:
        """Add the next text. Raises the error of `complain`, given `name`, for a repetition."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
        if key in self._fresh:
            raise self._complain(name)
        self._fresh[key] = name
        if len(self._fresh) >= _FRESH:
            self.finish()

    def finish(self) -> None:
        """Compare the texts that have not been compared yet. Raises the error of `complain` for a repetition."""
        keys = np.sort(np.fromiter(self._fresh, np.uint64, len(self._fresh)))
        positions = np.searchsorted(self._seen, keys)
        known = np.isin(keys, self._seen[positions[positions < len(self._seen)]])
        if known.any():
            raise self._complain(self._fresh[int(keys[known][0])])
        self._seen = np.insert(self._seen, positions, keys)
        self._fresh = {}
