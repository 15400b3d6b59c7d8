import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.preparation.readers import base
from pipelines.preparation.readers.base import EXAMPLES, Counted, NoRepeats, Notes


@given(ids=st.lists(st.integers(0, 40), max_size=40), fresh=st.integers(1, 8))
def test_a_repeated_text_is_detected_wherever_it_is(ids: list[int], fresh: int) -> None:
    repeats = NoRepeats(lambda name: ConfigurationError(f"{name} comes twice"))

    def take_all() -> None:
        for number in ids:
            repeats.add(f"product {number}", str(number))
        repeats.finish()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "_FRESH", fresh)  # so that texts are compared with those of earlier rounds
        if len(set(ids)) == len(ids):
            take_all()
            return
        with pytest.raises(ConfigurationError, match=r"[0-9]+ comes twice") as caught:
            take_all()
    assert ids.count(int(str(caught.value).split()[0])) > 1


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
