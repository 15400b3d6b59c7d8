import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.synthesis.defects import backgrounds as module
from pipelines.synthesis.defects.backgrounds import (
    Backgrounds,
    background_of,
    drawn_background,
    plain_background,
    shaded,
)


def striped(height: int = 160, width: int = 120) -> np.ndarray:
    photo = np.empty((height, width, 3), np.uint8)
    photo[:] = np.where((np.arange(height) // 8 % 2)[:, None, None] == 0, (210, 200, 190), (120, 100, 90))
    return photo


def with_product(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[50:110, 30:90] = 255
    photo = photo.copy()
    photo[mask > 0] = (20, 60, 220)
    return photo, mask


def test_the_product_is_filled_with_the_background_around_it() -> None:
    bare = striped()
    photo, mask = with_product(bare)
    filled = background_of(photo, mask)
    assert filled is not None
    assert filled.shape == photo.shape
    assert np.array_equal(filled[:40], photo[:40]), "the background stays"
    inside = filled[mask > 0].astype(int)
    assert (inside[:, 2] < inside[:, 0] + 20).all(), "nothing of the blue product is left"
    assert np.abs(inside - bare[mask > 0]).mean() < 12, "stripes are continued"


def test_a_plain_background_is_continued_without_a_seam() -> None:
    photo, mask = with_product(np.full((160, 120, 3), 180, np.uint8))
    filled = background_of(photo, mask)
    assert filled is not None
    assert np.abs(filled.astype(int) - 180).max() <= 3


def test_photos_that_are_all_product_give_no_background() -> None:
    photo = striped()
    full = np.full(photo.shape[:2], 255, np.uint8)
    full[:4] = 0
    assert background_of(photo, full) is None
    assert Backgrounds.from_photos([(photo, full), with_product(photo)], side=64).pictures[0].shape == (
        64,
        48,
        3,
    )


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="mask is"):
        background_of(striped(), np.zeros((10, 10), np.uint8))


@pytest.mark.parametrize("with_photos", [True, False])
def test_backgrounds_are_a_function_of_the_generator(with_photos: bool) -> None:
    backgrounds = Backgrounds.from_photos([with_product(striped())]) if with_photos else Backgrounds()
    for seed in range(12):
        one = backgrounds.draw(70, 50, np.random.default_rng(seed))
        assert one.shape == (50, 70, 3)
        assert one.dtype == np.uint8
        drawn_background.cache_clear()
        assert np.array_equal(one, backgrounds.draw(70, 50, np.random.default_rng(seed)))


def test_every_kind_of_background_is_drawn() -> None:
    blue = Backgrounds((np.full((40, 40, 3), (0, 0, 255), np.uint8),))
    drawn = [blue.draw(32, 32, np.random.default_rng(seed)) for seed in range(80)]
    share = np.mean([picture[..., 2].mean() > picture[..., :2].mean() + 100 for picture in drawn])
    assert 0.4 < share < 0.8


@given(seed=st.integers(0, 2**32), width=st.integers(1, 70), height=st.integers(1, 900))
def test_plain_backgrounds_have_any_size(seed: int, width: int, height: int) -> None:
    made = plain_background(width, height, np.random.default_rng(seed))
    assert made.shape == (height, width, 3)
    assert made.dtype == np.uint8


def test_shadows_darken_and_lie_beside_the_product() -> None:
    alpha = np.zeros((96, 96), np.uint8)
    alpha[30:66, 30:66] = 255
    background = np.full((96, 96, 3), 200, np.uint8)
    darkened = []
    for seed in range(30):
        made = shaded(background, alpha, np.random.default_rng(seed))
        assert (made <= background).all()
        assert made[:6].min() > 190, "far away there is none"
        darkened.append(made[26:70, 26:70].mean() < 199)
    assert 0.6 < np.mean(darkened) < 1


def test_drawn_backgrounds_are_kept() -> None:
    assert drawn_background(3) is drawn_background(3)
    assert drawn_background(3).shape == (module.DRAWN_SIDE, module.DRAWN_SIDE, 3)
