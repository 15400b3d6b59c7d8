import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.saliency.matte import guided_matte, tidy


def squares(*places: tuple[int, int, int]) -> np.ndarray:
    """Alpha (60, 60) float32 with squares (row, column, side) of 1."""
    alpha = np.zeros((60, 60), np.float32)
    for row, column, side in places:
        alpha[row : row + side, column : column + side] = 1
    return alpha


def test_debris_goes_and_large_pieces_stay() -> None:
    pair = squares((5, 5, 20), (30, 30, 15))
    assert np.array_equal(tidy(pair + squares((50, 3, 3)), 0.2, 0.02), pair)


def test_pinholes_are_filled_and_handles_stay_open() -> None:
    block = squares((5, 5, 40))
    pierced = block - squares((10, 10, 3)) - squares((20, 20, 12))
    assert np.array_equal(tidy(pierced, 0.2, 0.02), block - squares((20, 20, 12)))


def test_an_empty_matte_stays_empty() -> None:
    assert tidy(squares(), 0.2, 0.02).max() == 0


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.integers(0, 99))
def test_a_constant_matte_is_constant_whatever_the_photo(value: float, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), np.uint8)
    alpha = np.full((20, 15), value, np.float32)
    found = guided_matte(image, image[::2, ::2].copy(), alpha, 2, 1e-4)
    assert found.shape == (40, 30)
    assert found == pytest.approx(value, abs=1e-5)


def test_a_coarse_edge_moves_to_the_photos() -> None:
    image = np.full((96, 96, 3), 230, np.uint8)
    image[:, 50:] = (150, 20, 30)
    small = image[::4, ::4].copy()
    alpha = np.zeros((24, 24), np.float32)
    alpha[:, 11:] = 1  # two cells, eight pixels, too far left
    found = guided_matte(image, small, alpha, 3, 1e-4)
    edge = (found > 0.5).argmax(axis=1)
    assert np.abs(edge - 50).max() <= 3
