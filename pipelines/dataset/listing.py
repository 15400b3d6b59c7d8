"""What of a listing is prepared: each entry that has an id, the first time that it is listed.

Ids are compared by hash (`known`): eight bytes for each photo of the listing, and sixteen for each given pair.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from model.errors import ConfigurationError
from pipelines.dataset.known import KnownIds
from pipelines.dataset.records import Entry
from pipelines.dataset.totals import LISTED

#: Entries that are compared together.
CHUNK = 16_384
#: Error code of an entry whose id is empty.
NAMELESS = "no_image_id"


@dataclass
class Listing:
    """What is counted while entries are listed."""

    listed: int = 0
    planned: int = 0
    duplicates: int = 0
    nameless: int = 0
    examples: list[str] = field(default_factory=list)  # ids of duplicates, bounded


def key_of(entry: Entry) -> str:
    """Return what may come only once: an image, or of given pairs an image with a defect."""
    return entry.image_id if entry.defect is None else f"{entry.image_id}\0{entry.defect}"


def distinct_entries(
    entries: Callable[[], Iterable[Entry]],
    check: Callable[[Entry], None],
    counted: Listing | None = None,
) -> Iterator[Entry]:
    """Yield, in order, the entries that have an id, of equal keys the first; count all.

    entries: lists all, again where a message needs a second look. check: raises ConfigurationError for an entry of
    which nothing can be made. Raises it, too, for an id that a photo and a given pair have.
    """
    counted = counted or Listing()
    stream, seen = iter(entries()), KnownIds()
    while chunk := list(islice(stream, CHUNK)):
        counted.listed += len(chunk)
        named = [entry for entry in chunk if entry.image_id]
        counted.nameless += len(chunk) - len(named)
        new = seen.add([key_of(entry) for entry in named])
        seen.add([_mark_of_given(entry) for entry in named if entry.defect is not None])
        _refuse_two_kinds(named, seen, entries)
        for entry, is_new in zip(named, new, strict=True):
            if is_new:
                check(entry)
                counted.planned += 1
                yield entry
            else:
                counted.duplicates += 1
                if len(counted.examples) < LISTED:
                    counted.examples.append(entry.image_id)


def _mark_of_given(entry: Entry) -> str:
    """Return what is remembered of the id of a given entry, whatever its defect."""
    return f"{entry.image_id}\0"


def _refuse_two_kinds(named: Sequence[Entry], seen: KnownIds, entries: Callable[[], Iterable[Entry]]) -> None:
    """Raise ConfigurationError where an id is a photo's (or a clean product's) and a given pair's.

    Both would give rows of one id and defect, and they are hardly the same picture.
    """
    others = [entry.image_id if entry.defect is not None else _mark_of_given(entry) for entry in named]
    for entry, is_both in zip(named, seen.has(others), strict=True):
        if is_both:
            other = next((e for e in entries() if _is_of_the_other_kind(e, entry)), None)
            found = "the other kind elsewhere" if other is None else f"{_kind(other)} in {_place(other)}"
            raise ConfigurationError(
                f"image_id {entry.image_id!r} is {_kind(entry)} in {_place(entry)} and {found}: both would give rows "
                "of one id and defect; give one of the two sources an id_prefix in a file of --sources, or other ids"
            )


def _is_of_the_other_kind(other: Entry, entry: Entry) -> bool:
    return other.image_id == entry.image_id and (other.defect is None) != (entry.defect is None)


def _kind(entry: Entry) -> str:
    if entry.defect is not None:
        return f"a given image of {entry.defect}"
    return "a photo" if entry.source is not None else "a clean product image"


def _place(entry: Entry) -> str:
    place = entry.source or entry.target
    if place is None:
        return "a row without images"
    return place.uri if place.row is None else f"{place.uri}, row {place.row} (from 0)"
