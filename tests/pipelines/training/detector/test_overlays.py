import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.training.detector.overlays import OVERLAYS, is_white, turn, turn_mirrored, waver
from tests.training_data import picture


def pictures() -> tuple[np.ndarray, np.ndarray]:
    photo, clean = picture(3)
    return np.repeat(np.repeat(photo, 3, 0), 3, 1), np.repeat(np.repeat(clean, 3, 0), 3, 1)


def test_a_product_picture_is_recognised_by_its_border() -> None:
    photo, clean = pictures()
    assert (is_white(photo), is_white(clean)) == (False, True)


@pytest.mark.parametrize("name", sorted(OVERLAYS))
@pytest.mark.parametrize("which", [0, 1])
def test_an_overlay_is_visible_keeps_the_size_and_depends_on_the_seed_alone(name: str, which: int) -> None:
    image = pictures()[which]
    before = image.copy()
    first, second = (OVERLAYS[name](image, np.random.default_rng(5)) for _ in range(2))
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert np.abs(first.astype(int) - image).max() > 15
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before)


def test_a_turned_product_picture_stays_white_and_a_photo_gets_no_white_corners() -> None:
    photo, clean = pictures()
    assert is_white(turn(clean, np.random.default_rng(0)))
    corners = turn(photo, np.random.default_rng(0))[[0, 0, -1, -1], [0, -1, 0, -1]]
    # The photo's background has one colour, so mirroring does not change it.
    np.testing.assert_array_equal(corners, np.broadcast_to(photo[0, 0], (4, 3)))


def test_wavering_is_hardly_visible() -> None:
    for image in pictures():
        moved = np.abs(waver(image, np.random.default_rng(1)).astype(int) - image).mean()
        assert moved < np.abs(turn(image, np.random.default_rng(1)).astype(int) - image).mean() / 2


@given(st.integers(2, 60), st.integers(2, 60), st.floats(-30, 30))
def test_turning_accepts_any_size(height: int, width: int, degrees: float) -> None:
    image = np.full((height, width, 3), 77, np.uint8)
    turned = turn_mirrored(image, degrees)
    assert turned.shape == image.shape
