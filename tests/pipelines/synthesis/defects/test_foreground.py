import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.synthesis.defects.foreground import (
    foreground,
    most_apart,
    on_white,
    over,
    soft_edges,
    with_holes,
    without_specks,
)

RED, GREEN = np.array([200, 30, 40]), np.array([30, 160, 60])


def disc(side: int, radius: float, softness: float = 1.0) -> NDArray[np.uint8]:
    """Return the opacity of a disc whose edge is `softness` pixels wide."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.rint(np.clip((radius - np.hypot(x, y)) / softness + 0.5, 0, 1) * 255).astype(np.uint8)


def filled(colour: NDArray[np.int_], side: int = 96) -> NDArray[np.uint8]:
    return np.broadcast_to(colour, (side, side, 3)).astype(np.uint8)


@given(seed=st.integers(0, 2**32))
def test_over_is_exact_where_only_one_side_shows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    product, background = rng.integers(0, 256, (2, 9, 13, 3), dtype=np.uint8)
    alpha = rng.choice(np.array([0, 255, 77], np.uint8), (9, 13))
    made = over(product, alpha, background)
    assert np.array_equal(made[alpha == 255], product[alpha == 255])
    assert np.array_equal(made[alpha == 0], background[alpha == 0])
    mixed = product + (1 - 77 / 255) * (background.astype(float) - product)
    assert np.abs(made - mixed)[alpha == 77].max(initial=0) <= 1
    assert np.array_equal(on_white(product, alpha), over(product, alpha, np.full_like(product, 255)))


def test_the_background_leaves_no_rim() -> None:
    alpha = disc(192, 60, softness=4)
    photo = over(filled(RED, 192), alpha, filled(GREEN, 192))
    own = foreground(photo, alpha)
    result = on_white(own, alpha).astype(int)
    perfect = on_white(filled(RED, 192), alpha)
    naive = on_white(photo, alpha).astype(int)
    rim = (alpha > 0) & (alpha < 255)
    assert np.abs(result - perfect)[rim].mean() < 4
    assert np.abs(naive - perfect)[rim].mean() > 15


def test_white_is_unmixed_from_the_edges_of_a_product_on_white() -> None:
    alpha = disc(192, 60, softness=4)
    target = on_white(filled(RED, 192), alpha)
    dark = over(foreground(target, alpha, background=255), alpha, filled(np.array([10, 10, 10]), 192))
    perfect = over(filled(RED, 192), alpha, filled(np.array([10, 10, 10]), 192))
    assert np.abs(dark.astype(int) - perfect).max() < 12


@given(seed=st.integers(0, 2**32))
def test_only_soft_edges_change(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (24, 31, 3), dtype=np.uint8)
    alpha = rng.choice(np.array([0, 255, 90], np.uint8), (24, 31))
    before = image.copy()
    own = foreground(image, alpha)
    assert np.array_equal(image, before)
    assert np.array_equal(own[alpha != 90], image[alpha != 90])


def test_hard_masks_get_the_pictures_soft_edges() -> None:
    alpha = disc(192, 60)
    target = on_white(filled(RED, 192), alpha)
    hard = np.where(alpha > 0, 255, 0).astype(np.uint8)
    assert np.abs(soft_edges(target, hard).astype(int) - alpha).max() < 25
    assert soft_edges(target, alpha) is alpha


def test_a_white_stripe_along_the_edge_stays() -> None:
    target = np.full((60, 60, 3), 255, np.uint8)
    target[20:40, 20:40] = 60
    target[20:24, 20:40] = 250
    hard = np.zeros((60, 60), np.uint8)
    hard[20:40, 20:40] = 255
    assert (soft_edges(target, hard)[22:40, 22:38] > 250).mean() > 0.9


def test_specks_go_and_small_pieces_stay() -> None:
    mask = disc(128, 30)
    mask[5:7, 5:7] = 200
    mask[100:106, 4:10] = 255
    cleaned = without_specks(mask)
    assert cleaned[:20, :20].max() == 0
    assert np.array_equal(cleaned[90:], mask[90:])
    assert np.array_equal(cleaned[30:90], mask[30:90])


def test_most_apart_is_the_largest_difference_of_a_channel() -> None:
    one, other = filled(RED, 4), filled(GREEN, 4)
    assert (most_apart(one, other) == np.abs(RED - GREEN).max()).all()


def test_holes_in_the_goods_are_background_and_white_goods_are_not() -> None:
    whole = disc(160, 60)
    handle = np.minimum(whole, 255 - np.roll(disc(160, 12), 30, axis=1))
    body = np.minimum(whole, 255 - np.roll(disc(160, 40), -5, axis=1))
    for alpha, is_open in ((handle, True), (body, False)):
        target = on_white(filled(RED, 160), alpha)
        opened = with_holes(target, whole)
        assert np.abs(opened.astype(int) - (alpha if is_open else whole)).max() < 40
    assert with_holes(on_white(filled(RED, 160), whole), whole) is whole
