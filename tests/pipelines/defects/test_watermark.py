import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.defects import MAX_OPACITY, add_watermark, composite_on_white, rotate, tilt


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def product_on_white(height: int, width: int, level: int = 40) -> np.ndarray:
    image = np.full((height, width, 3), 255, np.uint8)
    image[height // 4 : -height // 4, width // 4 : -width // 4] = level
    return image


def smooth_picture(height: int, width: int) -> np.ndarray:
    """A product with soft edges, far from the border: interpolation has nothing to lose."""
    y = np.linspace(-1, 1, height)[:, None] * height / max(height, width)
    x = np.linspace(-1, 1, width)[None, :] * width / max(height, width)
    blob = np.exp(-((x / 0.35) ** 2) - (y / 0.2) ** 4)
    return (255 - blob[..., None] * np.array([60, 140, 200])).astype(np.uint8)


def axis_degrees(image: np.ndarray) -> float:
    """Direction of the dark product's longest axis, counter-clockwise from horizontal, in (-90, 90]."""
    weight = 255.0 - image.mean(axis=-1)
    y, x = np.indices(weight.shape)
    x, y = x - (weight * x).sum() / weight.sum(), y - (weight * y).sum() / weight.sum()
    xx, yy, xy = ((weight * product).sum() for product in (x * x, y * y, x * y))
    return float(np.degrees(-0.5 * np.arctan2(2 * xy, xx - yy)))


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(40, 300),
    width=st.integers(40, 300),
    level=st.integers(0, 255),
    seed=st.integers(0, 2**32),
)
def test_watermark_moves_pixels_by_no_more_than_its_opacity(
    height: int, width: int, level: int, seed: int
) -> None:
    image = product_on_white(height, width, level)
    before = image.copy()
    marked = add_watermark(image, generator(seed))
    assert np.array_equal(image, before)
    assert marked.dtype == np.uint8
    assert marked.shape == image.shape
    farthest = np.maximum(image, 255 - image).astype(float)  # the mark's colour is at most so far away
    assert (np.abs(marked.astype(float) - image) <= MAX_OPACITY * farthest + 1.5).all()
    assert np.array_equal(marked, add_watermark(image, generator(seed)))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_watermark_shows_on_white_and_on_the_product(level: int) -> None:
    image = product_on_white(266, 200, level)
    shares = []
    for seed in range(25):
        change = np.abs(add_watermark(image, generator(seed)).astype(int) - image).max(axis=-1)
        shares.append((change >= 12).mean())
        middle = change[66:-66, 50:-50]
        assert (middle > 0).any(), f"seed {seed}: nothing over the product"
    assert min(shares) > 0.004
    assert np.median(shares) > 0.02


def test_watermarks_differ_in_tone_and_extent() -> None:
    image = np.full((200, 150, 3), 128, np.uint8)
    marks = [add_watermark(image, generator(seed)).astype(int) - 128 for seed in range(40)]
    assert any((mark.min() < -20) for mark in marks), "none is darker than the picture"
    assert any((mark.max() > 20) for mark in marks), "none is brighter than the picture"
    assert any((np.ptp(mark, axis=-1) > 20).any() for mark in marks), "none is coloured"
    corner = [bool((mark[:40, :30] != 0).any()) for mark in marks]
    assert any(corner), "none is tiled to the corner"
    assert not all(corner), "none is single"


@settings(deadline=None, max_examples=15)
@given(degrees=st.floats(-40, 40), height=st.sampled_from([160, 213]), width=st.sampled_from([160, 213]))
def test_a_turn_by_a_known_angle_is_undone_by_its_opposite(degrees: float, height: int, width: int) -> None:
    image = smooth_picture(height, width)
    back = rotate(rotate(image, degrees), -degrees)
    inner = slice(20, -20)
    # Two interpolations and two roundings: 5 at worst over angles in steps of half a degree. One degree amiss gives 7.
    assert np.abs(back[inner, inner].astype(int) - image[inner, inner]).max() <= 6


def test_rotation_is_counter_clockwise_about_the_centre_and_white_outside() -> None:
    image = np.zeros((101, 101, 3), np.uint8)
    image[50, 90] = 255
    assert np.array_equal(rotate(image, 90.0, fill=0), np.rot90(image))
    corners = rotate(image, 45.0)[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all()


def test_rotation_keeps_shapes_in_pictures_that_are_not_square() -> None:
    y, x = np.mgrid[:120, :300]
    disc = np.where(np.hypot(x - 149.5, y - 59.5) < 40, 0, 255).astype(np.uint8)
    image = np.repeat(disc[..., None], 3, axis=2)
    # Nothing beyond the reach of bicubic interpolation from its edge may change.
    far = np.abs(np.hypot(x - 149.5, y - 59.5) - 40) > 3
    assert np.array_equal(rotate(image, 30.0)[far], image[far])


def test_tilt_is_between_its_limits_and_goes_either_way() -> None:
    image = smooth_picture(213, 213)
    angles = [axis_degrees(tilt(image, generator(seed))) - axis_degrees(image) for seed in range(30)]
    assert all(7.5 <= abs(angle) <= 30.5 for angle in angles)
    assert 8 <= sum(angle > 0 for angle in angles) <= 22
    assert max(map(abs, angles)) - min(map(abs, angles)) > 10
    narrow = tilt(image, generator(1), min_degrees=3.0, max_degrees=4.0)
    assert 2.5 <= abs(axis_degrees(narrow) - axis_degrees(image)) <= 4.5
    assert narrow.shape == image.shape


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
