"""What all readers share: the protocol, notes, and the check that ids are unique."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from model.errors import ConfigurationError
from pipelines.dataset.records import Entry

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


def unique(entries: Iterable[Entry], name: str, remedy: str) -> Iterator[Entry]:
    """The same entries. Raises ConfigurationError where an `image_id` comes twice with the same defect, with `remedy`.

    Holds 8 bytes per entry: it compares hashes of 64 bits, which among ten million ids mistake two for one in three
    of a million runs. A repetition may be noticed some ten thousand entries later.
    """
    seen = np.empty(0, np.uint64)
    fresh: dict[int, str] = {}
    for entry in entries:
        digest = hashlib.blake2b(
            f"{entry.defect or ''}\0{entry.image_id}".encode("utf-8", "surrogatepass"), digest_size=8
        ).digest()
        key = int.from_bytes(digest, "big")
        if key in fresh:
            raise _repeated(entry.image_id, name, remedy)
        fresh[key] = entry.image_id
        if len(fresh) == _FRESH:
            seen = _merged(seen, fresh, name, remedy)
            fresh = {}
        yield entry
    _merged(seen, fresh, name, remedy)


def _merged(seen: np.ndarray, fresh: dict[int, str], name: str, remedy: str) -> np.ndarray:
    keys = np.sort(np.fromiter(fresh, np.uint64, len(fresh)))
    places = np.searchsorted(seen, keys)
    inside = places < len(seen)
    known = keys[inside][seen[places[inside]] == keys[inside]]
    if len(known):
        raise _repeated(fresh[int(known[0])], name, remedy)
    return np.insert(seen, places, keys)


def _repeated(image_id: str, name: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{name}: image_id {image_id!r} comes twice; {remedy}")
