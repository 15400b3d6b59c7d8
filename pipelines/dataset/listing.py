"""What of a listing is new: ids that come once, and what earlier generations prepared is left alone.

Ids are compared by hash (`known`): eight bytes for each photo of the listing, and sixteen for each given pair.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from model.errors import ConfigurationError
from pipelines.dataset.known import KnownIds
from pipelines.dataset.records import Entry
from pipelines.dataset.totals import LISTED

#: Entries that are looked at together.
CHUNK = 16_384
SIDES = ("source", "target")
_WHOLE = "whole"


@dataclass
class Listing:
    """What is counted while entries are listed."""

    listed: int = 0
    planned: int = 0
    known: int = 0
    duplicates: int = 0
    nameless: int = 0
    examples: list[str] = field(default_factory=list)


def key_of(entry: Entry) -> str:
    """What may come only once: an image, or of given pairs an image with a defect."""
    return entry.image_id if entry.defect is None else f"{entry.image_id}\0{entry.defect}"


def marks_of(entry: Entry) -> list[str]:
    """What is remembered of an entry that was prepared: its own mark, and of given ones the id's.

    An unpaired image's mark is not its pair's: its partner may come later.
    """
    if entry.defect is None:
        return [entry.image_id]
    sides = [side for side in SIDES if getattr(entry, side) is not None]
    own = key_of(entry) if len(sides) == len(SIDES) else mark_of_side(entry, "".join(sides))
    return [own, f"{entry.image_id}\0"]


def possible_marks(image_id: str, defects: Sequence[str]) -> list[str]:
    """Every own mark that an entry of this id may have."""
    given = [f"{image_id}\0{defect}" for defect in defects]
    return [image_id, *given, *(f"{mark}\0{side}" for mark in given for side in SIDES)]


def mark_of_side(entry: Entry, side: str) -> str:
    """The mark of a given entry that has this side alone."""
    return f"{key_of(entry)}\0{side}"


def fresh_entries(
    entries: Callable[[], Iterable[Entry]],
    known: KnownIds,
    check: Callable[[Entry], None],
    counted: Listing | None = None,
) -> Iterator[Entry]:
    """The entries that have an id and are not known, in order; all are counted.

    entries: lists all, again where a message needs a second look. known: `marks_of` what earlier generations prepared.
    check: raises ConfigurationError for an entry of which nothing can be made. Raises it, too, for an id that a photo
    and a given pair have.
    """
    counted = counted or Listing()
    stream, seen = iter(entries()), KnownIds()
    while chunk := list(islice(stream, CHUNK)):
        counted.listed += len(chunk)
        named = [entry for entry in chunk if entry.image_id]
        counted.nameless += len(chunk) - len(named)
        new = seen.add([key_of(entry) for entry in named])
        seen.add([f"{entry.image_id}\0" for entry in named if entry.defect is not None])
        _refuse_two_kinds(named, seen, known, entries)
        for entry, first, there in zip(named, new, _there(named, known), strict=True):
            if not first:
                counted.duplicates += 1
                if len(counted.examples) < LISTED:
                    counted.examples.append(entry.image_id)
            elif there == _WHOLE:
                counted.known += 1
            else:
                check(entry)
                counted.planned += 1
                yield replace(entry, completes=there) if there else entry


def _there(named: Sequence[Entry], known: KnownIds) -> Iterator[str | None]:
    """What the dataset has of each entry: _WHOLE, of a pair one side or both as unpaired rows, or None."""
    whole = known.has([key_of(entry) for entry in named])
    sides = [known.has([mark_of_side(entry, side) for entry in named]) for side in SIDES]
    for entry, everything, *has in zip(named, whole, *sides, strict=True):
        given = [side for side in SIDES if getattr(entry, side) is not None]
        earlier = [side for side, is_there in zip(SIDES, has, strict=True) if is_there]
        if everything or (entry.defect is not None and len(given) == 1 and given[0] in earlier):
            yield _WHOLE
        else:
            yield " ".join(earlier) if len(given) == len(SIDES) and earlier else None


def _refuse_two_kinds(
    named: Sequence[Entry], seen: KnownIds, known: KnownIds, entries: Callable[[], Iterable[Entry]]
) -> None:
    """Raise ConfigurationError where an id is a photo's (or a clean product's) and a given pair's.

    Both would give rows of one id and defect, and they are hardly the same picture.
    """
    others = [entry.image_id if entry.defect is not None else f"{entry.image_id}\0" for entry in named]
    for entry, here, before in zip(named, seen.has(others), known.has(others), strict=True):
        if here or before:
            other = next(
                (
                    e
                    for e in entries()
                    if e.image_id == entry.image_id and (e.defect is None) != (entry.defect is None)
                ),
                None,
            )
            place = "a source that was prepared before" if other is None else _place(other)
            raise ConfigurationError(
                f"image_id {entry.image_id!r} is {_kind(entry)} in {_place(entry)} and "
                f"{'the other kind' if other is None else _kind(other)} in {place}: both would give rows of one id and "
                "defect; give one of the two sources an id_prefix in a file of --sources, or other ids"
            )


def _kind(entry: Entry) -> str:
    if entry.defect is not None:
        return f"a given image of {entry.defect}"
    return "a photo" if entry.source is not None else "a clean product image"


def _place(entry: Entry) -> str:
    place = entry.source or entry.target
    if place is None:
        return "a row without images"
    return place.uri if place.row is None else f"{place.uri}, row {place.row} (from 0)"
