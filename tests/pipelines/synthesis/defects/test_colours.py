import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.synthesis.defects.colours import Tint


@given(seed=st.integers(0, 2**32))
def test_white_stays_white_and_grey_is_cast_a_little_at_most(seed: int) -> None:
    tint = Tint.draw(np.random.default_rng(seed))
    white = np.full((3, 4, 3), 255, np.uint8)
    assert (tint(white) >= 254).all()
    grey = tint(np.full((1, 1, 3), 128, np.uint8))[0, 0].astype(int)
    assert grey.max() - grey.min() < 60
    assert 40 < grey.mean() < 220


def test_a_tint_is_one_function_of_a_colour() -> None:
    tint = Tint.draw(np.random.default_rng(4))
    picture = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    assert np.array_equal(tint(picture)[2:5, 1:7], tint(np.ascontiguousarray(picture[2:5, 1:7])))


def test_tints_differ() -> None:
    grey = np.full((1, 1, 3), 128, np.uint8)
    assert len({tuple(Tint.draw(np.random.default_rng(seed))(grey).ravel()) for seed in range(20)}) > 15
