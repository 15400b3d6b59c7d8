"""What upsampling must keep, whatever the guide: identity, bounds, and independence of the window."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipelines.inference.edits.guided import Guided, Places

SIZES = st.tuples(st.integers(6, 12), st.integers(6, 12))
SEEDS = st.integers(0, 2**31)


def draw(seed: int, channels: int, size: tuple[int, int]) -> Tensor:
    return torch.rand(channels, *size, generator=torch.Generator().manual_seed(seed))


def whole(size: tuple[int, int], count: tuple[int, int]) -> Places:
    return Places(size, count, (slice(0, size[0]), slice(0, size[1])))


@settings(max_examples=30, deadline=None)
@given(SIZES, SEEDS)
def test_an_upload_of_the_edits_size_gets_the_edit_as_it_is(size: tuple[int, int], seed: int) -> None:
    guide, content, matte = (
        draw(seed, 3, size) * 2 - 1,
        draw(seed + 1, 3, size) * 2 - 1,
        draw(seed + 2, 1, size),
    )
    painted, shares = Guided(guide, content, matte, size).at(whole(size, size), guide)
    torch.testing.assert_close(painted, content, atol=1e-5, rtol=0)
    torch.testing.assert_close(shares, matte, atol=1e-5, rtol=0)


@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(2, 5), SEEDS, st.floats(0, 1))
def test_a_constant_matte_is_constant_whatever_the_guides_texture(
    count: tuple[int, int], factor: int, seed: int, value: float
) -> None:
    size = (count[0] * factor, count[1] * factor)
    guided = Guided(
        draw(seed, 3, count) * 2 - 1, draw(seed + 1, 3, count), torch.full((1, *count), value), size
    )
    _, shares = guided.at(whole(size, count), draw(seed + 2, 3, size) * 2 - 1)
    torch.testing.assert_close(shares, torch.full_like(shares, value), atol=1e-4, rtol=0)


@settings(max_examples=30, deadline=None)
@given(SIZES, st.floats(1, 4), SEEDS)
def test_nothing_leaves_its_range(count: tuple[int, int], factor: float, seed: int) -> None:
    size = (round(count[0] * factor), round(count[1] * factor))
    guided = Guided(
        draw(seed, 3, count) * 2 - 1, draw(seed + 1, 3, count) * 2 - 1, draw(seed + 2, 1, count), size
    )
    content, shares = guided.at(whole(size, count), draw(seed + 3, 3, size) * 2 - 1)
    assert content.abs().max() <= 1
    assert shares.min() >= -1e-6
    assert shares.max() <= 1 + 1e-6


def test_content_that_is_the_guide_brings_the_uploads_detail() -> None:
    """Under a faint mark the paint is the image itself: at full size it must be the upload, not its small copy."""
    count, size = (16, 16), (64, 64)
    fine = draw(0, 3, size) * 2 - 1
    guide = draw(1, 3, count) * 2 - 1
    content, _ = Guided(guide, guide, torch.ones(1, *count), size).at(whole(size, count), fine)
    inner = (slice(None), slice(8, -8), slice(8, -8))
    assert (content[inner] - fine[inner]).abs().mean() < 0.05 * fine[inner].abs().mean()


@pytest.mark.parametrize(
    "window", [(slice(0, 9), slice(5, 30)), (slice(20, 21), slice(0, 30)), (slice(7, 24), slice(29, 30))]
)
def test_a_window_has_the_bits_of_the_whole(window: tuple[slice, slice]) -> None:
    count, size = (7, 9), (24, 30)
    guided = Guided(draw(0, 3, count) * 2 - 1, draw(1, 3, count) * 2 - 1, draw(2, 1, count), size)
    pixels = draw(3, 3, size) * 2 - 1
    complete = guided.at(whole(size, count), pixels)
    part = guided.at(Places(size, count, window), pixels[:, window[0], window[1]])
    for one, other in zip(part, complete, strict=True):
        assert torch.equal(one, other[:, window[0], window[1]])


def test_where_the_matte_is_zero_nothing_is_painted() -> None:
    count, size = (8, 8), (32, 32)
    matte = torch.zeros(1, *count)
    matte[:, 1, 1] = 1
    guided = Guided(draw(0, 3, count), draw(1, 3, count), matte, size)
    assert guided.paints(whole(size, count))
    assert not guided.paints(Places(size, count, (slice(20, 32), slice(20, 32))))
