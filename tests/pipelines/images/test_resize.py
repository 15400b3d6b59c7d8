import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.images.resize import resize_bicubic, shrink_bicubic
from tests.hostile_images import drawing


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90), level=st.integers(0, 255))
def test_any_size_is_reached_and_flat_stays_flat(width: int, height: int, level: int) -> None:
    flat = np.full((31, 17, 3), level, np.uint8)
    resized = resize_bicubic(flat, width, height)
    assert resized.shape == (height, width, 3)
    assert resized.dtype == np.uint8
    assert (resized == level).all()


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the small picture can show: only the mean may remain
    assert np.abs(resize_bicubic(stripes, 16, 16).astype(int) - 127.5).max() < 12


def test_a_smooth_picture_keeps_its_values_in_place() -> None:
    small, large = drawing(40, 30), drawing(160, 120)
    assert np.abs(resize_bicubic(large, 40, 30).astype(int) - small)[1:-1, 1:-1].max() <= 4


def test_same_size_is_unchanged_and_other_arrays_are_refused() -> None:
    pixels = drawing()
    assert (resize_bicubic(pixels, pixels.shape[1], pixels.shape[0]) == pixels).all()
    for wrong in (pixels.astype(np.float32), pixels[..., 0]):
        with pytest.raises(ValueError, match="uint8"):
            resize_bicubic(wrong, 8, 8)


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90), side=st.integers(1, 60))
def test_the_longer_side_shrinks_to_its_limit_and_nothing_grows(width: int, height: int, side: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    small = shrink_bicubic(image, side)
    if max(width, height) <= side:
        assert small is image
        return
    assert max(small.shape[:2]) == side
    shorter = min(width, height) * side / max(width, height)
    assert min(small.shape[:2]) == pytest.approx(max(1, shorter), abs=0.5 + 1e-9)
