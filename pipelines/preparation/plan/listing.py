"""Select the entries to prepare from a listing: those with an id, each the first time that it is listed.

Ids are compared by hash (`known`): eight bytes for each photo of the listing, and sixteen for each given pair.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from model.errors import ConfigurationError
from pipelines.preparation.entries import Entry
from pipelines.preparation.plan.known import KnownIds
from pipelines.preparation.totals import LISTED

#: Number of entries that are compared at a time.
CHUNK = 16_384
#: Error code of an entry whose id is empty.
NAMELESS = "no_image_id"


@dataclass
class Listing:
    """Counts made while entries are listed."""

    listed: int = 0
    planned: int = 0
    duplicates: int = 0
    nameless: int = 0
    examples: list[str] = field(default_factory=list)  # ids of duplicates, bounded


def key_of(entry: Entry) -> str:
    """Return the key that must be unique: the image id or, for a given pair, the image id with the defect."""
    return entry.image_id if entry.defect is None else f"{entry.image_id}\0{entry.defect}"


def distinct_entries(
    entries: Callable[[], Iterable[Entry]],
    check: Callable[[Entry], None],
    counted: Listing | None = None,
) -> Iterator[Entry]:
    """Yield, in order, the entries that have an id; of equal keys only the first. Count all in `counted`.

    entries: lists all; called again if an error message needs the other entry. check: raises ConfigurationError if
    nothing can be made of an entry. Raises ConfigurationError, too, if a photo and a given pair share an id.
    """
    counted = counted or Listing()
    stream, seen = iter(entries()), KnownIds()
    while chunk := list(islice(stream, CHUNK)):
        counted.listed += len(chunk)
        named = [entry for entry in chunk if entry.image_id]
        counted.nameless += len(chunk) - len(named)
        new = seen.add([key_of(entry) for entry in named])
        seen.add([_given_key(entry) for entry in named if entry.defect is not None])
        _refuse_mixed_kinds(named, seen, entries)
        for entry, is_new in zip(named, new, strict=True):
            if is_new:
                check(entry)
                counted.planned += 1
                yield entry
            else:
                counted.duplicates += 1
                if len(counted.examples) < LISTED:
                    counted.examples.append(entry.image_id)


def _given_key(entry: Entry) -> str:
    """Return the key under which a given entry's id is remembered, for any defect."""
    return f"{entry.image_id}\0"


def _refuse_mixed_kinds(
    named: Sequence[Entry], seen: KnownIds, entries: Callable[[], Iterable[Entry]]
) -> None:
    """Raise ConfigurationError if an id belongs to a given pair and also to a photo or clean product.

    Both would give rows with the same id and defect, and they are hardly the same picture.
    """
    others = [entry.image_id if entry.defect is not None else _given_key(entry) for entry in named]
    for entry, is_both in zip(named, seen.has(others), strict=True):
        if is_both:
            other = next((e for e in entries() if _conflicts(e, entry)), None)
            where = "the other kind elsewhere" if other is None else f"{_kind(other)} in {_location(other)}"
            raise ConfigurationError(
                f"image_id {entry.image_id!r} is {_kind(entry)} in {_location(entry)} and {where}: both would give "
                "rows of one id and defect; give one of the sources an id_prefix in a file of --sources, or other ids"
            )


def _conflicts(other: Entry, entry: Entry) -> bool:
    return other.image_id == entry.image_id and (other.defect is None) != (entry.defect is None)


def _kind(entry: Entry) -> str:
    if entry.defect is not None:
        return f"a given image of {entry.defect}"
    return "a photo" if entry.source is not None else "a clean product image"


def _location(entry: Entry) -> str:
    locator = entry.source or entry.target
    if locator is None:
        return "a row without images"
    return locator.uri if locator.row is None else f"{locator.uri}, row {locator.row} (from 0)"
