from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contracts.splits import split_of


def test_one_photo_in_five_is_kept_for_tests() -> None:
    counts = Counter(split_of(f"photo-{i}") for i in range(10_000))
    assert set(counts) == {"train", "test"}
    assert counts["test"] / 10_000 == pytest.approx(0.2, abs=0.01)


def test_the_split_of_known_ids_never_changes() -> None:
    # Fixed here, because a dataset prepared next year must not move a photo from test to train.
    known = {"a": "train", "b": "train", "sku-0": "train", "sku-1": "test", "sku-17": "test", "Ärmel": "test"}
    assert {image_id: split_of(image_id) for image_id in known} == known


@given(st.text())
def test_any_string_has_a_split(image_id: str) -> None:
    assert split_of(image_id) in ("train", "test")


def test_an_id_with_a_lone_surrogate_has_a_split() -> None:
    assert split_of("\ud800") in ("train", "test")
