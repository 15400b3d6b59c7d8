import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.synthesis.defects import (
    composite_on_white,
    non_white_background,
    product_alpha,
    put_on_background,
)
from tests.defect_images import change, disc_on_white, product_on_white


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_composite_is_the_mean_of_image_and_white_by_the_mask(seed: int) -> None:
    rng = generator(seed)
    image = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    mask = rng.random((9, 7)).astype(np.float32)
    mask[0], mask[1] = 0.0, 1.0
    result = composite_on_white(image, mask)
    assert result.dtype == np.uint8
    assert np.array_equal(result[0], np.full((7, 3), 255))
    assert np.array_equal(result[1], image[1])
    exact = mask[..., None].astype(float) * image + (1 - mask[..., None].astype(float)) * 255
    assert np.abs(result - exact).max() <= 0.501


def test_a_products_alpha_is_estimated_from_the_white() -> None:
    side, radius = 120, 40.0
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    truth = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    alpha = product_alpha(disc_on_white(side, radius))
    assert np.abs(alpha - truth).max() < 0.08  # nearly white counts as white: 11 of 225 levels
    assert (alpha[truth == 0] == 0).all()
    assert (alpha[truth == 1] == 1).all()


def test_a_hole_in_a_handle_is_background_but_a_white_print_is_not() -> None:
    image = product_on_white(200, 160)
    image[80:120, 60:100] = 255  # a hole
    assert (product_alpha(image)[82:118, 62:98] == 0).all()
    rng = generator(0)
    image[80:120, 60:100] = rng.integers(246, 256, (40, 40, 3))  # photographed cloth has shades
    assert (product_alpha(image)[82:118, 62:98] == 1).all()


def test_a_white_stripe_along_the_edge_stays() -> None:
    image = product_on_white(200, 160)
    image[50:150, 47:55] = 238  # 7 pixels from the edge
    assert (product_alpha(image)[60:140, 46:56] == 1).all()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), height=st.integers(16, 120), width=st.integers(16, 120))
def test_the_goods_keep_their_pixels_and_their_surroundings_are_not_white(
    seed: int, height: int, width: int
) -> None:
    rng = generator(seed)
    mask = np.zeros((height, width), np.float32)
    mask[height // 4 : height // 2, width // 4 : -3] = 1.0
    mask[height // 2] = 0.5
    goods = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    clean = composite_on_white(goods, mask)
    upload = put_on_background(clean, rng, mask)
    assert np.array_equal(upload[mask == 1], clean[mask == 1])
    assert (255 - upload[mask == 0].astype(float)).mean() >= 10
    half = clean[mask == 0.5].astype(int) - upload[mask == 0.5]
    assert (half >= 0).all()
    assert (half <= 128).all(), "half of such a pixel is product: at most the other half can darken"


def test_surfaces_differ_and_have_texture() -> None:
    clean = product_on_white(96, 80)
    surfaces = [non_white_background(clean, generator(seed))[:20].astype(float) for seed in range(12)]
    means = np.array([surface.mean(axis=(0, 1)) for surface in surfaces])
    assert np.ptp(means, axis=0).min() > 60
    assert np.median([surface.std(axis=(0, 1)).mean() for surface in surfaces]) > 3


def test_goods_cast_a_shadow_on_the_surface_beside_them() -> None:
    lying, speck = np.zeros((256, 256), np.float32), np.zeros((256, 256), np.float32)
    lying[80:180, 80:180] = 1.0
    speck[2:5, 2:5] = 1.0
    white = np.full((256, 256, 3), 255, np.uint8)
    missing, same_surface = [], 0
    for seed in range(30):
        lit = put_on_background(white, generator(seed), speck)[20:240, 20:240].astype(float)
        shaded = put_on_background(white, generator(seed), lying)[20:240, 20:240].astype(float)
        if not np.array_equal(lit[:, -20:], shaded[:, -20:]):
            continue  # behind standing goods there is a wall, at another height for other goods
        same_surface += 1
        missing.append(1 - shaded[161:164, 60:160].mean() / lit[161:164, 60:160].mean())
        assert (shaded <= lit)[lying[20:240, 20:240] == 0].all()
    assert same_surface >= 15
    assert min(missing) > 0.03
    assert np.mean(missing) > 0.15


def test_a_picture_that_the_goods_fill_shows_the_surface_in_its_margin() -> None:
    image = np.full((100, 80, 3), 90, np.uint8)
    upload = non_white_background(image, generator(3))
    assert np.array_equal(upload[10:-10, 10:-10], image[10:-10, 10:-10])
    assert change(image, upload)[:3].mean() > 5


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="mask"):
        put_on_background(product_on_white(40, 40), generator(0), np.ones((40, 41), np.float32))
