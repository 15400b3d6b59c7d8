import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.synthesis.defects import MAX_OPACITY, add_watermark
from tests.defect_images import change, pictures, product_on_white


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


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
    farthest = np.maximum(image, 255 - image).astype(
        float
    )  # the largest possible distance of the mark's colour
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


@settings(deadline=None, max_examples=150)
@given(image=pictures(), seed=st.integers(0, 2**32))
def test_watermark_shows_on_any_picture(image: np.ndarray, seed: int) -> None:
    changed = change(image, add_watermark(image, generator(seed)))
    # Any level is 128 from black or from white, which is 19 at the least opacity; strokes may be slightly weaker.
    assert changed.max() >= 15
    assert (changed >= 6).mean() >= 0.004


def test_white_goods_get_no_white_mark_and_black_ones_no_black_mark() -> None:
    for level in (12, 243):
        goods = product_on_white(160, 120, level)
        for seed in range(30):
            changed = change(goods, add_watermark(goods, generator(seed)))
            inside = changed[40:-40, 30:-30]
            assert inside.max() >= 12, f"level {level}, seed {seed}: nothing visible on the goods"


def test_some_marks_are_two_toned() -> None:
    grey = np.full((200, 150, 3), 128, np.uint8)
    both = 0
    for seed in range(40):
        moved = add_watermark(grey, generator(seed)).astype(int).mean(axis=-1) - 128
        both += bool((moved > 8).any() and (moved < -8).any())
    assert both >= 3


def test_marks_on_busy_patterns_are_not_the_faintest() -> None:
    cells = generator(0).choice(np.array([0, 245], np.uint8), (80, 60))
    busy = np.repeat(np.kron(cells, np.ones((2, 2), np.uint8))[..., None], 3, axis=2)
    # The middle grey is 123 levels from both, and 0.32 of that is 39; 0.15 would be 18.
    assert min(change(busy, add_watermark(busy, generator(seed))).max() for seed in range(60)) >= 39
