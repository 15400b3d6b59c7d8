"""The matcher finds the same pairs as comparing all with all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.checking import matching
from pipelines.checking.matching import MAX_DISTANCE, near_pairs

HASHES = st.integers(0, 2**64 - 1)


def matches(first: np.ndarray, second: np.ndarray, distance: int) -> list[tuple[int, int, int]]:
    return sorted(
        pair
        for part in near_pairs(first, second, distance)
        for pair in zip(part.first.tolist(), part.second.tolist(), part.distances.tolist(), strict=True)
    )


def brute_force(first: np.ndarray, second: np.ndarray, distance: int) -> list[tuple[int, int, int]]:
    distances = [
        (i, j, (int(a) ^ int(b)).bit_count()) for i, a in enumerate(first) for j, b in enumerate(second)
    ]
    return sorted(pair for pair in distances if pair[2] <= distance)


@given(
    st.lists(HASHES, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 63), max_size=13)), max_size=12),
    st.integers(0, 8),
)
def test_every_near_pair_is_found_once(
    first: list[int], changes: list[tuple[int, set[int]]], distance: int
) -> None:
    """The second side are hashes of the first with a few bits changed, so that many are near."""
    second = [
        (first[index % len(first)] if first else 0) ^ sum(1 << bit for bit in bits) for index, bits in changes
    ]
    a, b = np.array(first, np.uint64), np.array(second, np.uint64)
    assert matches(a, b, distance) == brute_force(a, b, distance)


def test_small_chunks_and_the_largest_distance_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 2**64, 4, dtype=np.uint64)
    noise = (1 << rng.integers(0, 64, (60, 4), dtype=np.uint64)).astype(np.uint64)
    hashes = np.repeat(centres, 15) ^ np.bitwise_xor.reduce(noise, axis=1)
    monkeypatch.setattr(matching, "_CHUNK", 3)
    expected = brute_force(hashes[:25], hashes[25:], MAX_DISTANCE)
    assert len(expected) > 30
    assert matches(hashes[:25], hashes[25:], MAX_DISTANCE) == expected


@pytest.mark.parametrize("distance", [-1, MAX_DISTANCE + 1])
def test_a_distance_out_of_range_is_refused(distance: int) -> None:
    with pytest.raises(ConfigurationError, match=r"must be 0\.\.11 bits"):
        list(near_pairs(np.zeros(1, np.uint64), np.zeros(1, np.uint64), distance))
