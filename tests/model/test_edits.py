import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.edits import Edit, apply_edit, blend, identity_theta, warp
from tests.model.builders import images, theta_of

#: An upload of the training size, a larger one, a smaller one, and one that is not square.
SIZES = [(8, 8), (32, 32), (5, 4), (24, 40)]
#: A quarter turn, which is exact on the grid of a square image.
QUARTER_TURN = [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]


def leave(theta: Tensor, side: int = 8) -> Edit:
    """Return an edit that moves and paints nothing."""
    return Edit(theta, torch.zeros(len(theta), 3, side, side), torch.zeros(len(theta), 1, side, side))


def upload(height: int, width: int, count: int = 1) -> Tensor:
    """Return a random image (count, 3, height, width) in [-1, 1]."""
    return images(count, max(height, width))[..., :height, :width].contiguous()


@pytest.mark.parametrize("size", SIZES)
def test_matte_0_leaves_every_pixel_exactly(size: tuple[int, int]) -> None:
    image = upload(*size)
    assert torch.equal(apply_edit(image, leave(identity_theta(1))), image)


@pytest.mark.parametrize("size", SIZES)
def test_matte_1_paints_the_content_everywhere(size: tuple[int, int]) -> None:
    content = torch.tensor([0.25, -0.5, 1.0])[None, :, None, None].expand(1, 3, 8, 8)
    painted = apply_edit(upload(*size), Edit(identity_theta(1), content, torch.ones(1, 1, 8, 8)))
    torch.testing.assert_close(painted, content[..., :1, :1].expand(1, 3, *size), rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(matte=st.floats(0, 1, width=32), old=st.floats(-1, 1, width=32), new=st.floats(-1, 1, width=32))
def test_the_matte_mixes_and_never_leaves_the_range(matte: float, old: float, new: float) -> None:
    image, content = torch.full((1, 3, 2, 2), old), torch.full((1, 3, 2, 2), new)
    mixed = blend(image, content, torch.full((1, 1, 2, 2), matte))
    assert mixed[0, 0, 0, 0].item() == pytest.approx(matte * new + (1 - matte) * old, abs=1e-6)
    assert mixed.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("factor", [2, 5])
def test_content_and_matte_are_upsampled_bilinearly(factor: int) -> None:
    """A ramp keeps its slope: pixel centres of the upload lie correctly between those of the small image."""
    small = 8
    ramp = torch.linspace(-0.875, 0.875, small)  # the centres' coordinates in [-1, 1]
    content = ramp.expand(1, 3, small, small)
    matte = ((ramp + 1) / 2)[:, None].expand(1, 1, small, small)
    side = small * factor
    edited = apply_edit(torch.zeros(1, 3, side, side), Edit(identity_theta(1), content, matte))
    x = (torch.arange(side) + 0.5) / side * 2 - 1
    expected = x.clamp(-0.875, 0.875) * ((x.clamp(-0.875, 0.875) + 1) / 2)[:, None]
    torch.testing.assert_close(edited, expected.expand(1, 3, side, side), rtol=0, atol=1e-5)


def test_painting_stays_where_the_matte_is() -> None:
    """Two small pixels away from the matte, no bit of the upload changes."""
    image, matte = upload(64, 64), torch.zeros(1, 1, 8, 8)
    matte[..., :4] = 1
    edited = apply_edit(image, Edit(identity_theta(1), torch.ones(1, 3, 8, 8), matte))
    assert torch.equal(edited[..., 40:], image[..., 40:])
    assert (edited[..., :24] == 1).all()


@pytest.mark.parametrize("size", SIZES)
def test_rows_that_do_not_move_are_untouched_bit_for_bit(size: tuple[int, int]) -> None:
    image = upload(*size, count=3)
    theta = identity_theta(3).clone()
    theta[1, 0, 2] = 0.3
    edited = apply_edit(image, leave(theta))
    assert torch.equal(edited[0], image[0])
    assert torch.equal(edited[2], image[2])
    assert not torch.equal(edited[1], image[1])


@pytest.mark.parametrize("side", [8, 32])
def test_a_quarter_turn_at_two_resolutions(side: int) -> None:
    image = upload(side, side)
    turned = apply_edit(image, leave(theta_of(QUARTER_TURN)))
    # The output at (x, y) shows the input at (y, -x): its right edge was the top, so it turned clockwise.
    torch.testing.assert_close(turned, torch.rot90(image, -1, (2, 3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (8, 24)])
def test_a_shift_at_several_resolutions(size: tuple[int, int]) -> None:
    """The shift is a quarter of the width for any width; pixels from outside are white."""
    image = upload(*size)
    shifted = apply_edit(image, leave(theta_of([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]])))
    quarter = size[1] // 4
    torch.testing.assert_close(shifted[..., :-quarter], image[..., quarter:], rtol=0, atol=1e-5)
    torch.testing.assert_close(shifted[..., -quarter:], torch.ones(1, 3, size[0], quarter), rtol=0, atol=1e-6)


def test_an_image_moved_out_of_the_frame_is_all_white() -> None:
    away = apply_edit(upload(8, 8), leave(theta_of([[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]])))
    assert (away == 1).all()


def test_the_image_moves_first_and_is_painted_after() -> None:
    """Content and matte belong to the moved image's frame."""
    matte = torch.zeros(1, 1, 8, 8)
    matte[..., :2] = 1
    image = torch.full((1, 3, 8, 8), -1.0)
    edit = Edit(theta_of([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]), torch.zeros(1, 3, 8, 8), matte)
    torch.testing.assert_close(
        apply_edit(image, edit)[0, 0, 0],
        torch.tensor([0.0, 0.0, -1.0, -1.0, -1.0, -1.0, 1.0, 1.0]),
        rtol=0,
        atol=1e-6,
    )


@settings(max_examples=20, deadline=None)
@given(degrees=st.floats(-45, 45), shift=st.floats(-0.2, 0.2), scale=st.floats(0.8, 1.25))
def test_the_small_image_shows_the_effect_on_the_upload(degrees: float, shift: float, scale: float) -> None:
    """Editing then shrinking equals shrinking then editing, on an image smooth enough for its resolution."""
    angle = math.radians(degrees)
    theta = theta_of(
        [
            [scale * math.cos(angle), -scale * math.sin(angle), shift],
            [scale * math.sin(angle), scale * math.cos(angle), -shift],
        ]
    )
    axis = (torch.arange(96) + 0.5) / 96 * 2 - 1
    blob = 1 - 1.5 * torch.exp(-((axis - 0.2) ** 2 * 6)[:, None] - (axis + 0.1) ** 2 * 12)
    image = blob.expand(1, 3, 96, 96)
    shrink = torch.nn.AvgPool2d(3)
    difference = apply_edit(shrink(image), leave(theta)) - shrink(apply_edit(image, leave(theta)))
    assert difference.abs().max() < 0.03


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_does_not_move_pixels(dtype: torch.dtype) -> None:
    """A grid in bfloat16 is off by half a pixel, so training would learn another transform than the one applied."""
    theta = theta_of([[0.9, -0.1, 0.013], [0.1, 0.9, 0.02]])
    image = torch.linspace(-1, 1, 256).expand(1, 3, 256, 256).to(dtype)
    expected = warp(image.float(), theta, outside=1.0).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moved = warp(image, theta, outside=1.0)
    assert moved.dtype == dtype
    assert torch.equal(moved, expected)


def test_gradients_reach_every_part_of_an_edit() -> None:
    parts = [theta_of(QUARTER_TURN), torch.zeros(1, 3, 8, 8), torch.full((1, 1, 8, 8), 0.5)]
    for part in parts:
        part.requires_grad_()
    apply_edit(upload(16, 16), Edit(*parts)).square().sum().backward()
    assert all(part.grad is not None and part.grad.isfinite().all() and part.grad.any() for part in parts)
