import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines.correction.deliver.white import (
    BORDER,
    CORNER,
    NEAR_WHITE,
    NEAR_WHITE_PAINTED,
    WHITE,
    measure_white,
    snap_white,
)


def on_ground(level: int, side: int = 40) -> np.ndarray:
    """Return a red square ring on a background of that level, with a white print inside the ring."""
    image = np.full((side, side, 3), level, np.uint8)
    image[10:30, 10:30] = (180, 20, 20)
    image[15:25, 15:25] = 250
    return image


def test_the_ground_becomes_white_and_prints_inside_the_product_stay() -> None:
    image = on_ground(246)
    snapped, background = snap_white(image)
    assert (snapped[background] == 255).all()
    np.testing.assert_array_equal(snapped[10:30, 10:30], image[10:30, 10:30])
    assert background.sum() == 40 * 40 - 20 * 20


def test_what_is_not_near_white_stays_unless_the_generator_has_painted_it() -> None:
    image = on_ground(NEAR_WHITE_PAINTED)
    assert NEAR_WHITE_PAINTED < NEAR_WHITE
    np.testing.assert_array_equal(snap_white(image)[0], image)
    painted = np.zeros((40, 40), np.uint8)
    painted[:, :5] = 255
    snapped, background = snap_white(image, painted)
    assert (background == (painted > 0)).all()
    assert (snapped[:, :5] == 255).all()


def test_a_white_product_that_the_generator_left_alone_keeps_its_texture() -> None:
    image = np.full((60, 60, 3), 253, np.uint8)  # painted
    image[:, :6] = 244  # a strip of wall, nearly white
    product = slice(20, 40), slice(20, 40)
    image[product] = np.random.default_rng(1).integers(NEAR_WHITE, 255, (20, 20, 1))
    painted = np.full((60, 60), 255, np.uint8)
    painted[:, :6] = painted[product] = 0
    snapped, background = snap_white(image, painted)
    np.testing.assert_array_equal(snapped[product], image[product])
    assert not background[product].any()
    assert background.sum() == 60 * 60 - 20 * 20
    assert snap_white(image)[1][product].all()  # without a matte, product and background look the same


pictures = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)), elements=st.integers(230, 255)
)


@settings(max_examples=60, deadline=None)
@given(pictures)
def test_only_near_white_that_reaches_the_border_changes_and_twice_is_once(image: np.ndarray) -> None:
    snapped, background = snap_white(image)
    changed = (snapped != image).any(axis=2)
    assert (image[changed] >= NEAR_WHITE).all()
    assert (changed <= background).all()
    frame = np.ones(image.shape[:2], bool)
    frame[1:-1, 1:-1] = False
    assert (snapped[frame & (image >= NEAR_WHITE).all(axis=2)] == 255).all()
    np.testing.assert_array_equal(snap_white(snapped)[0], snapped)


def test_corners_and_border_are_measured_and_the_product_is_left_out() -> None:
    image = np.full((100, 100, 3), 255, np.uint8)
    assert measure_white(image).worst == 0
    image[50, 50] = 0  # inside, which does not count
    assert measure_white(image).worst == 0
    image[:3, :2, 1] = (
        WHITE - 1
    )  # one channel of six pixels of a corner's 36; four of them in the border's 784
    measured = measure_white(image)
    assert measured.corners == pytest.approx(6 / 36)
    assert measured.border == pytest.approx(6 / 784)
    product = np.zeros((100, 100), bool)
    product[:3, :2] = True
    assert measure_white(image, product).worst == 0
    assert measure_white(image, np.ones((100, 100), bool)).worst == 0


@settings(max_examples=60, deadline=None)
@given(pictures, st.integers(0, 999))
def test_border_and_corners_are_those_of_the_whole_picture(image: np.ndarray, seed: int) -> None:
    product = np.random.default_rng(seed).random(image.shape[:2]) < 0.3
    rows, columns = (np.minimum(np.arange(side), np.arange(side)[::-1]) for side in image.shape[:2])
    thick, corner = (max(1, round(share * min(image.shape[:2]))) for share in (BORDER, CORNER))
    dark, counts = (image < WHITE).any(axis=2), ~product
    ring = (rows[:, None] < thick) | (columns < thick)
    measured = measure_white(image, product)
    assert measured.border == pytest.approx((dark & counts & ring).sum() / max(1, (counts & ring).sum()))
    first = np.s_[:corner, :corner]
    assert measured.corners >= (dark & counts)[first].sum() / max(1, counts[first].sum()) - 1e-12
