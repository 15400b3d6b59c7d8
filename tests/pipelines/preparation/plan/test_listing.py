from collections.abc import Iterable

import pytest

from model.errors import ConfigurationError
from pipelines.preparation.entries import Entry, Locator
from pipelines.preparation.plan import listing
from pipelines.preparation.plan.listing import Listing, distinct_entries

X, Y = Locator("x.png"), Locator("y.png")
PHOTO, CLEAN = Entry("p", source=X), Entry("p", target=Y)
SOURCE, TARGET = Entry("p", source=X, defect="blur"), Entry("p", target=Y, defect="blur")
PAIR = Entry("p", X, Y, defect="blur")


def distinct(entries: Iterable[Entry], counted: Listing | None = None) -> list[Entry]:
    listed = list(entries)
    return list(distinct_entries(lambda: listed, lambda _: None, counted))


@pytest.mark.parametrize("apart", [0, 5])
@pytest.mark.parametrize("entries", [(PHOTO, PHOTO), (CLEAN, PHOTO), (PAIR, PAIR), (SOURCE, TARGET)])
def test_of_equal_ids_the_first_is_taken_and_the_others_are_counted_and_named(
    entries: tuple[Entry, Entry], apart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "CHUNK", 3)
    between = [Entry(f"q{number}", source=X) for number in range(apart)]
    counted = Listing()
    assert distinct([entries[0], *between, entries[1]], counted) == [entries[0], *between]
    assert counted == Listing(listed=apart + 2, planned=apart + 1, duplicates=1, examples=["p"])


@pytest.mark.parametrize("entries", [(PHOTO, PAIR), (SOURCE, PHOTO), (CLEAN, TARGET)])
@pytest.mark.parametrize("apart", [0, 5])
def test_an_id_of_a_photo_and_of_a_given_pair_is_refused_with_both_locations(
    entries: tuple[Entry, Entry], apart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "CHUNK", 3)
    between = [Entry(f"q{number}", source=X) for number in range(apart)]
    with pytest.raises(ConfigurationError, match=r"'p' is .* in [xy]\.png and .* in [xy]\.png: .*id_prefix"):
        distinct([entries[0], *between, entries[1]])


def test_the_location_of_a_cell_names_its_row() -> None:
    rows = [Entry("p", source=Locator("t.parquet", 7, "image")), Entry("p", X, Y, defect="blur")]
    with pytest.raises(ConfigurationError, match=r"a photo in t\.parquet, row 7 \(from 0\)"):
        distinct(rows)
