"""Letters of marks and banners: every letter has its shape, and words are as large as was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.synthesis.defects import overlays
from pipelines.synthesis.defects.lettering import (
    BOLD_FACES,
    LATIN_FACES,
    MIN_SIZE,
    NOTICES,
    WIDE_FACES,
    face_for,
    fitting_size,
    font,
    initials,
    shop_words,
    text_stamp,
)
from pipelines.synthesis.defects.marks import LOGO_WORDS

FACES = sorted({*LATIN_FACES, *WIDE_FACES, *BOLD_FACES})


def lacking(words: str, face: str) -> set[str]:
    """Letters that the face shows as the box, or nothing, of a letter that it does not have."""
    letters = font(face, 32)
    unknown = [bytes(letters.getmask(sign)) for sign in ("\uffff", "\ue123")]
    return {sign for sign in words if not sign.isspace() and bytes(letters.getmask(sign)) in unknown}


def test_a_letter_that_a_face_lacks_is_seen() -> None:
    assert lacking("AЖ", "") == {"Ж"}
    assert lacking("A漢", "DejaVuSans.ttf") == {"漢"}


@given(st.integers(0, 2**32))
def test_what_a_seller_writes_has_all_its_letters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = shop_words(rng)
    assert not lacking(words, face_for(words, rng)), words


@pytest.mark.parametrize("words", [*NOTICES, *LOGO_WORDS, "€ 9.99", "£5"])
def test_no_choice_of_a_face_lacks_a_letter(words: str) -> None:
    for seed in range(40):
        face = face_for(words, np.random.default_rng(seed))
        assert not lacking(words, face), face


@given(st.integers(0, 2**32))
def test_claims_and_prices_have_all_their_letters_in_heavy_faces(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = overlays._claim(rng) + overlays._announcement(rng) + "".join(overlays.FEATURES)
    assert not any(lacking(words, face) for face in BOLD_FACES), words


@settings(max_examples=60)
@given(
    st.text("ABgjy&.@ 019", min_size=1, max_size=20).filter(str.strip),
    st.sampled_from(FACES),
    st.floats(40, 600),
    st.floats(10, 120),
)
def test_words_fill_the_place_and_no_more(words: str, face: str, width: float, height: float) -> None:
    words = words.strip()
    size = fitting_size(words, face, width, height)
    stamp = text_stamp(words, face, size)
    if size > MIN_SIZE:
        # Hinting moves outlines by a pixel or two, whatever the size.
        assert stamp.width <= width * 1.05 + 6
        assert stamp.height <= height * 1.05 + 6
        larger = text_stamp(words, face, round(1.3 * size) + 4)
        assert larger.width > width * 0.95 - 6 or larger.height > height * 0.95 - 6


@pytest.mark.parametrize("face", FACES)
def test_a_stamp_is_cut_to_its_letters(face: str) -> None:
    for weight, hollow in ((0.0, False), (0.05, False), (0.05, True)):
        cover = np.asarray(text_stamp("Sale g", face, 40, weight, hollow))
        assert cover.max() == 255
        for edge in (cover[:6], cover[-6:], cover[:, :6], cover[:, -6:]):
            assert edge.any(), (weight, hollow)  # a face leaves a few pixels beside a letter
        assert cover[0].max() < 255
    solid, hollow = (np.asarray(text_stamp("Sale", face, 40, 0.05, empty)) for empty in (False, True))
    assert solid.shape == hollow.shape
    assert 0 < hollow.astype(int).sum() < 0.8 * solid.astype(int).sum()


def test_initials_are_capitals() -> None:
    for count in (1, 2, 3):
        found = initials(np.random.default_rng(count), count)
        assert len(found) == count
        assert found.isalpha()
        assert found.isupper()
        assert found.isascii()
