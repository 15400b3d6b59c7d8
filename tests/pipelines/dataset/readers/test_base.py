import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.dataset.readers import base
from pipelines.dataset.readers.base import EXAMPLES, Counted, Notes, unique
from pipelines.dataset.records import Entry


@given(ids=st.lists(st.integers(0, 40), max_size=40), fresh=st.integers(1, 8))
def test_repeated_ids_are_found_wherever_they_are(ids: list[int], fresh: int) -> None:
    entries = [Entry(str(number)) for number in ids]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "_FRESH", fresh)  # so that ids are compared with those of earlier rounds
        if len(set(ids)) == len(ids):
            assert list(unique(entries, "--photos: x")) == entries
            return
        with pytest.raises(ConfigurationError, match=r"--photos: x: image_id '[0-9]+' comes twice") as caught:
            list(unique(entries, "--photos: x"))
    repeated = str(caught.value).split("'")[1]
    assert ids.count(int(repeated)) > 1


def test_an_id_may_come_once_for_each_defect() -> None:
    entries = [Entry("a"), Entry("a", defect="blur"), Entry("a", defect="watermark")]
    assert list(unique(entries, "x")) == entries


def test_notes_are_logged_once_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes()
    with caplog.at_level(logging.WARNING):
        notes.add("three files")
        notes.add("three files")
    assert notes.all() == ["three files"]
    assert [record.getMessage() for record in caplog.records] == ["three files"]


def test_a_note_names_a_few_and_counts_all() -> None:
    counted = Counted()
    for number in range(EXAMPLES + 5):
        counted.add(f"n{number}")
    assert counted.count == EXAMPLES + 5
    assert str(counted).startswith("n0, n1, ")
    assert str(counted).endswith(f"n{EXAMPLES - 1} and 5 more")
