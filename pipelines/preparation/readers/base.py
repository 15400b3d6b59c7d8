"""What all readers share: the protocol, notes, and the check that a text does not come twice."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from model.errors import ConfigurationError
from pipelines.preparation.entries import Entry

logger = logging.getLogger(__name__)

#: Names that a note gives as examples; all are counted.
EXAMPLES = 20
#: Ids that are held as text until they are compared with those before.
_FRESH = 1 << 16


class Notes:
    """Discrepancies that a reader finds while it lists: logged, never an error. Few, whatever the number of images."""

    def __init__(self) -> None:
        self._notes: list[str] = []

    def add(self, note: str) -> None:
        """Log and keep a note, once."""
        if note not in self._notes:
            logger.warning("%s", note)
            self._notes.append(note)

    def all(self) -> list[str]:
        """The notes so far."""
        return list(self._notes)


class Counted:
    """Counts things of one kind and keeps the names of the first few, for a note."""

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
    """One source of entries. `name` says in messages where it was asked for and what it reads."""

    @property
    def name(self) -> str: ...

    def check(self) -> None:
        """Look at what is cheap to look at. Raises ConfigurationError where the source is absent, empty or unfit."""

    def describe(self) -> dict[str, Any]:
        """What is read, for --dry-run; with counts where they cost no pass over the data. After `check`."""

    def entries(self, notes: Notes) -> Iterator[Entry]:
        """All entries, in an order that depends on the data alone. Raises ConfigurationError."""


class NoRepeats:
    """Complains about a text that comes twice.

    Holds 8 bytes for each (16 while it merges): it compares hashes of 64 bits. Among ten million texts two different
    ones are mistaken for one in three of a million runs. A repetition may be noticed some ten thousand texts later, at
    the latest by `finish`.

    complain: makes the error from what `add` was told to show.
    """

    def __init__(self, complain: Callable[[str], ConfigurationError]) -> None:
        self._complain = complain
        self._seen = np.empty(0, np.uint64)  # sorted
        self._fresh: dict[int, str] = {}

    def add(self, text: str, shown: str) -> None:
        """Take the next text."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
        if key in self._fresh:
            raise self._complain(shown)
        self._fresh[key] = shown
        if len(self._fresh) >= _FRESH:
            self.finish()

    def finish(self) -> None:
        """Compare what has not been compared."""
        keys = np.sort(np.fromiter(self._fresh, np.uint64, len(self._fresh)))
        places = np.searchsorted(self._seen, keys)
        known = np.isin(keys, self._seen[places[places < len(self._seen)]])
        if known.any():
            raise self._complain(self._fresh[int(keys[known][0])])
        self._seen = np.insert(self._seen, places, keys)
        self._fresh = {}
