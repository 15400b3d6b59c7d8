import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contracts.hashing import hash_number, in_share


def test_the_hash_distinguishes_parts() -> None:
    assert hash_number("ab", "c") != hash_number("a", "bc")
    assert hash_number(1, "a") != hash_number(2, "a")
    assert 0 <= hash_number("a") < 2**256


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_has_all_of_a_smaller_one(name: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    assert in_share(larger, name) or not in_share(smaller, name)
    assert not in_share(0, name)
    assert in_share(1, name)


def test_a_share_has_about_so_many() -> None:
    assert sum(in_share(0.3, "canary", number) for number in range(10_000)) == pytest.approx(3000, abs=150)
