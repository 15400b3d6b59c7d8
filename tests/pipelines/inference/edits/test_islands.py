"""Scraps of the old background go; the product and its parts stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.inference.edits.islands import without_islands

SIDE = 64
PRODUCT = np.s_[16:48, 20:44]


def painted(*kept: tuple[slice, slice], share: float = 1.0) -> np.ndarray:
    """Return the matte of an edit that keeps PRODUCT whole and `share` of other areas."""
    matte = np.ones((SIDE, SIDE), np.float32)
    for area in kept:
        matte[area] = 1 - share
    matte[PRODUCT] = 0
    return matte


def result(matte: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return without_islands(np.full((*matte.shape, 3), -1, np.float32), matte)


@pytest.mark.parametrize(
    ("area", "share"),
    [(np.s_[60:64, 2:18], 1.0), (np.s_[56:64, 2:40], 0.6), (np.s_[53:55, 5:9], 0.5)],
    ids=["at the border", "doubtful at the border", "doubtful speck"],
)
def test_scraps_become_white(area: tuple[slice, slice], share: float) -> None:
    content, matte = result(painted(area, share=share))
    assert (matte[area] == 1).all()
    assert (content[area] == 1).all()
    np.testing.assert_array_equal(matte[PRODUCT], 0)
    assert (content[PRODUCT] == -1).all()


@pytest.mark.parametrize(
    "area",
    [np.s_[16:48, 52:64], np.s_[16:32, 56:64], np.s_[53:56, 5:9]],
    ids=["the second shoe, cut off by the border", "a strap at the border", "a buckle"],
)
def test_parts_of_the_product_stay(area: tuple[slice, slice]) -> None:
    content, matte = result(painted(area))
    np.testing.assert_array_equal(matte[area], 0)
    assert (content == -1).all()


@pytest.mark.parametrize(
    "matte", [painted(), np.ones((SIDE, SIDE), np.float32), np.zeros((8, 9), np.float32)]
)
def test_one_island_or_none_is_left_as_it_is(matte: np.ndarray) -> None:
    np.testing.assert_array_equal(result(matte)[1], matte)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(24, 24), (9, 40), (1, 5)]))
def test_only_more_is_painted_and_never_the_largest_island(seed: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    matte = rng.choice(np.float32([0, 0.3, 0.6, 1]), shape, p=[0.2, 0.1, 0.1, 0.6])
    matte[:, : shape[1] // 2] = 0
    content, after = result(matte)
    assert (after >= matte).all()
    changed = after > matte
    assert (content[changed] == 1).all()
    assert (content[~changed & (after < 1)] == -1).all()
    assert (after[:, : shape[1] // 2] == 0).all()
