import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines import storage
from pipelines.published.object_names import MAX_LENGTH, safe_name

ids = st.text(st.characters(), min_size=1, max_size=300)


@settings(deadline=None)
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


@settings(deadline=None)
@given(ids, ids)
@example("a/b", "a~2Fb")
@example("~", "~7E")
@example(".x", "~2Ex")
@example("x" * 200, "x" * 201)
@example("/" * 100, "/" * 99)
@example("a", "A")
@example("Ab", "aB")
@example("é", "e\u0301")  # composed and decomposed
@example("ﬀ", "ff")
@example("İ", "i")
@example("K", "\u212a")  # the Kelvin sign equals k without regard to case
@example("a ", "a")
@example("\ud83d\ude00", "😀")  # two lone surrogates are not the character
@example("x" * 2000 + "y", "x" * 2000 + "Y")
def test_two_ids_never_share_a_name_even_where_case_does_not_count(one: str, other: str) -> None:
    assert (safe_name(one).lower() == safe_name(other).lower()) == (one == other)


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("aA~xX7eE/.")), min_size=2, max_size=40))
def test_ids_made_to_look_like_names_do_not_collide(texts: list[str]) -> None:
    different = {text for text in texts if text}
    names = {safe_name(text) for text in different}
    for _ in range(2):  # a name that is used as an id has a name of its own
        different |= names
        names = {safe_name(text) for text in different}
    assert len({name.lower() for name in names}) == len(different)


HOSTILE = [
    *(
        "..",
        ".",
        "../../etc/passwd",
        "/etc/passwd",
        "a/../b",
        "a\\b",
        "C:\\a",
        "CON",
        "nul",
        "-rf",
        "~root",
        "%2e%2e",
    ),
    *(
        "a\0b",
        "a\nb",
        "\x1b[31m",
        "\u202egpj",
        "\ud800",
        "é",
        "e\u0301",
        "İ",
        "ß",
        "SS",
        "ss",
        " ",
        "a ",
        "a.",
    ),
    *("_SUCCESS", ".hidden", "images", "a.jpg", "a", "A", "x" * 2000, "X" * 2000, "/" * 2000, "😀" * 500),
]


def test_hostile_ids_are_files_of_their_own_on_a_local_disk(tmp_path: Path) -> None:
    for image_id in HOSTILE:
        uri = storage.join(str(tmp_path), "images", "blur", f"{safe_name(image_id)}.webp")
        storage.write_bytes(uri, image_id.encode("utf-8", "surrogatepass"))
    files = list((tmp_path / "images" / "blur").iterdir())
    assert {file.read_bytes().decode("utf-8", "surrogatepass") for file in files} == set(HOSTILE)
    assert len({file.name.lower() for file in files}) == len(HOSTILE)
    assert len(storage.list_files(str(tmp_path), ".webp")) == len(HOSTILE)  # none is hidden
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_ordinary_ids_stay_as_they_are() -> None:
    assert safe_name("b0123-front_2.v1") == "b0123-front_2.v1"
    assert re.fullmatch(r"B0123~x[0-9a-f]{12}", safe_name("B0123"))
    assert safe_name("shop/42 front") == "shop~2F42~20front"


def test_an_id_too_long_keeps_its_beginning_and_cuts_no_escape() -> None:
    for shift in range(3):
        name = safe_name("a" * shift + "/" * 200)
        assert re.fullmatch(r"a*(~2F)+~~[0-9a-f]{40}", name)


def test_an_empty_id_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        safe_name("")
