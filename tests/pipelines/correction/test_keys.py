import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.correction.keys import MAX_LENGTH, safe_name

ids = st.text(st.characters(), min_size=1, max_size=300)


@given(ids)
@example("../../etc/passwd")
@example(".hidden")
@example("_SUCCESS")
@example("\ud800")
@example("é" * 200)
def test_a_name_is_one_visible_component_that_every_storage_takes(image_id: str) -> None:
    name = safe_name(image_id)
    assert re.fullmatch(r"[A-Za-z0-9~-][A-Za-z0-9._~-]*", name)
    assert len(name) <= MAX_LENGTH


@given(ids, ids)
@example("a/b", "a~2Fb")
@example("~", "~7E")
@example(".x", "~2Ex")
@example("x" * 200, "x" * 201)
@example("/" * 100, "/" * 99)
def test_two_ids_never_share_a_name(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


def test_ordinary_ids_stay_as_they_are() -> None:
    assert safe_name("B0123-front_2.v1") == "B0123-front_2.v1"
    assert safe_name("shop/42 front") == "shop~2F42~20front"


def test_an_id_too_long_keeps_its_beginning_and_cuts_no_escape() -> None:
    for shift in range(3):
        name = safe_name("a" * shift + "/" * 200)
        assert re.fullmatch(r"a*(~2F)+~~[0-9a-f]{40}", name)


def test_an_empty_id_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        safe_name("")
