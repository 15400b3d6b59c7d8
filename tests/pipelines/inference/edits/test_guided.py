"""What the models of an edit must keep, whatever the guide: identity, bounds, and detail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.inference.edits import guided
from pipelines.inference.edits.guided import fitted
from pipelines.inference.edits.paint import paint

SIZES = st.tuples(st.integers(6, 12), st.integers(6, 12))
SEEDS = st.integers(0, 2**31)
LEVELS = np.float32(127.5)


def draw(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, np.float32)


def photo(seed: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def scaled(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return image / LEVELS - 1


def painted(
    image: NDArray[np.uint8],
    guide: NDArray[np.float32],
    content: NDArray[np.float32],
    matte: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    models = fitted(guide, content, matte, image.shape[:2])
    return paint(image, models, None)


@settings(max_examples=30, deadline=None)
@given(SIZES, SEEDS)
def test_an_upload_of_the_edits_size_gets_the_edit_as_it_is(size: tuple[int, int], seed: int) -> None:
    image = photo(seed, size)
    content, matte = draw(seed + 1, *size, 3) * 2 - 1, draw(seed + 2, *size)
    result, shares = painted(image, scaled(image), content, matte)
    exact = scaled(image) + (content - scaled(image)) * matte[..., None]
    assert np.abs((exact + 1) * LEVELS - result).max() <= 1.5
    assert np.abs(matte * 255 - shares).max() <= 0.6


@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(2, 5), SEEDS, st.floats(0, 1))
def test_a_constant_matte_is_constant_whatever_the_guides_texture(
    count: tuple[int, int], factor: int, seed: int, value: float
) -> None:
    image = photo(seed, (count[0] * factor, count[1] * factor))
    matte = np.full(count, value, np.float32)
    _, shares = painted(image, draw(seed, *count, 3) * 2 - 1, draw(seed + 1, *count, 3), matte)
    assert np.abs(shares - value * 255).max() <= 0.6


@settings(max_examples=30, deadline=None)
@given(SIZES, st.floats(1, 4), SEEDS)
def test_the_matte_stays_between_those_nearby(count: tuple[int, int], factor: float, seed: int) -> None:
    image = photo(seed, (round(count[0] * factor), round(count[1] * factor)))
    matte = 0.25 + draw(seed + 2, *count) / 2
    _, shares = painted(image, draw(seed, *count, 3) * 2 - 1, draw(seed + 1, *count, 3), matte)
    assert shares.min() >= 63
    assert shares.max() <= 192


def test_content_that_is_the_guide_brings_the_uploads_detail() -> None:
    """Under a faint mark the paint is the image itself: at full size it must be the upload, not its small copy."""
    fine, guide = photo(0, (64, 64)), draw(1, 16, 16, 3) * 2 - 1
    result, _ = painted(fine, guide, guide, np.ones((16, 16), np.float32))
    inner = (slice(8, -8), slice(8, -8))
    assert np.abs(result[inner].astype(int) - fine[inner]).mean() < 0.05 * 127


def test_where_the_matte_is_zero_nothing_is_painted() -> None:
    matte = np.zeros((8, 8), np.float32)
    matte[1, 1] = 1
    image = photo(3, (32, 32))
    result, shares = painted(image, draw(0, 8, 8, 3), draw(1, 8, 8, 3), matte)
    assert shares[:14, :14].any()
    assert not shares[20:].any()
    np.testing.assert_array_equal(result[shares == 0], image[shares == 0])


@settings(max_examples=30, deadline=None)
@given(SIZES, st.floats(1, 4), SEEDS)
def test_models_that_are_left_out_are_never_used(size: tuple[int, int], factor: float, seed: int) -> None:
    image = photo(seed, (round(size[0] * factor), round(size[1] * factor)))
    random = np.random.default_rng(seed)
    matte = draw(seed + 1, *size) * (random.random(size) < 0.3)
    matte[random.random(size) < 0.3] = 1
    content = draw(seed + 2, *size, 3) * 2 - 1
    content[: size[0] // 2] = 1
    arguments = image, draw(seed + 3, *size, 3) * 2 - 1, content, matte
    sparse = painted(*arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guided, "_wanted", lambda used: np.ones_like(used))
        dense = painted(*arguments)
    for one, other in zip(sparse, dense, strict=True):
        np.testing.assert_array_equal(one, other)
