from collections.abc import Iterable

import pytest

from model.errors import ConfigurationError
from pipelines.dataset import listing
from pipelines.dataset.known import KnownIds
from pipelines.dataset.listing import fresh_entries, marks_of, possible_marks
from pipelines.dataset.records import Entry, Locator

X, Y = Locator("x.png"), Locator("y.png")
PHOTO, CLEAN = Entry("p", source=X), Entry("p", target=Y)
SOURCE, TARGET = Entry("p", source=X, defect="blur"), Entry("p", target=Y, defect="blur")
PAIR = Entry("p", X, Y, defect="blur")


def known(*entries: Entry) -> KnownIds:
    found = KnownIds()
    found.add([mark for entry in entries for mark in marks_of(entry)])
    return found


def fresh(entries: Iterable[Entry], there: KnownIds | None = None) -> list[Entry]:
    listed = list(entries)
    return list(fresh_entries(lambda: listed, there or KnownIds(), lambda _: None))


@pytest.mark.parametrize(
    ("there", "now", "completes"),
    [
        ([SOURCE], PAIR, "source"),
        ([TARGET], PAIR, "target"),
        ([SOURCE, TARGET], PAIR, "source target"),
        ([SOURCE], TARGET, None),
        ([], PAIR, None),
    ],
)
def test_a_partner_that_comes_later_is_new_with_what_it_completes(
    there: list[Entry], now: Entry, completes: str | None
) -> None:
    [found] = fresh([now], known(*there))
    assert (found.source, found.target, found.completes) == (now.source, now.target, completes)


@pytest.mark.parametrize(
    ("there", "now"), [(PAIR, PAIR), (PAIR, SOURCE), (SOURCE, SOURCE), (TARGET, TARGET), (PHOTO, CLEAN)]
)
def test_what_the_dataset_has_is_left_alone(there: Entry, now: Entry) -> None:
    assert fresh([now], known(there)) == []


def test_a_pair_of_a_dataset_made_before_sides_were_remembered_is_known() -> None:
    earlier = KnownIds()
    earlier.add(["p\0blur"])
    assert fresh([PAIR, Entry("q", X, Y, defect="blur")], earlier) == [Entry("q", X, Y, defect="blur")]


@pytest.mark.parametrize("entries", [(PHOTO, PAIR), (SOURCE, PHOTO), (CLEAN, TARGET)])
@pytest.mark.parametrize("apart", [0, 5])
def test_an_id_of_a_photo_and_of_a_given_pair_is_refused_with_both_places(
    entries: tuple[Entry, Entry], apart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "CHUNK", 3)
    between = [Entry(f"q{number}", source=X) for number in range(apart)]
    with pytest.raises(ConfigurationError, match=r"'p' is .* in [xy]\.png and .* in [xy]\.png: .*id_prefix"):
        fresh([entries[0], *between, entries[1]])
    with pytest.raises(ConfigurationError, match=r"'p' is .* a source that was prepared before.*id_prefix"):
        fresh([entries[1]], known(entries[0]))


def test_the_place_of_a_cell_has_its_row() -> None:
    rows = [Entry("p", source=Locator("t.parquet", 7, "image")), Entry("p", X, Y, defect="blur")]
    with pytest.raises(ConfigurationError, match=r"a photo in t\.parquet, row 7 \(from 0\)"):
        fresh(rows)


@pytest.mark.parametrize("entry", [PHOTO, CLEAN, SOURCE, TARGET, PAIR])
def test_every_mark_is_possible(entry: Entry) -> None:
    assert marks_of(entry)[0] in possible_marks("p", ["watermark", "blur"])
