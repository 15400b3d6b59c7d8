import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.edits import Edit, apply_edit, identity_theta
from pipelines.correction.edit_codec import apply_edits, decode_edit, encode_edits
from pipelines.pixels import to_tensor, to_uint8
from tests.catalogs import picture

images = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.just(3)))


@given(images)
def test_pixels_survive_the_way_to_a_tensor_and_back(image: np.ndarray) -> None:
    tensor = to_tensor(image)
    assert tensor.shape == (image.shape[0], 3, *image.shape[1:3])
    assert float(tensor.min()) >= -1
    assert float(tensor.max()) <= 1
    np.testing.assert_array_equal(to_uint8(tensor), image)


def edit(side: int, matte: torch.Tensor, seed: int = 0) -> Edit:
    content = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Edit(identity_theta(1), content, matte)


def test_an_edit_travels_within_half_a_level() -> None:
    original = edit(8, torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)))._replace(
        theta=torch.tensor([[[0.9, -0.1, 0.05], [0.1, 0.9, -0.2]]])
    )
    (value,) = encode_edits(original)
    assert {name: len(data) for name, data in value.items()} == {
        "theta": 24,
        "content": 8 * 8 * 3,
        "matte": 8 * 8,
    }
    found = decode_edit(value)
    torch.testing.assert_close(found.theta, original.theta, rtol=0, atol=0)
    torch.testing.assert_close(found.content, original.content, rtol=0, atol=1.001 / 255)
    torch.testing.assert_close(found.matte, original.matte, rtol=0, atol=0.501 / 255)


@settings(deadline=None, max_examples=25)
@given(st.integers(10, 70), st.integers(10, 70), st.integers(0, 100))
def test_pixels_outside_the_matte_are_the_uploads_own(width: int, height: int, seed: int) -> None:
    image = picture(seed, width, height)
    almost_none = torch.full((1, 1, 8, 8), 0.001)  # what a sigmoid calls zero
    np.testing.assert_array_equal(apply_edits(image, encode_edits(edit(8, almost_none))), image)


def test_an_edit_is_applied_at_the_uploads_resolution() -> None:
    image = picture(2, 90, 50)
    matte = torch.zeros(1, 1, 8, 8)
    matte[..., :4] = 1
    painted = edit(8, matte)._replace(content=torch.full((1, 3, 8, 8), 1.0))
    result = apply_edits(image, encode_edits(painted))
    assert result.shape == image.shape
    assert (result[:, :39] == 255).all()  # left of the seam's 8x8 pixels, in the upload's
    np.testing.assert_array_equal(result[:, 51:], image[:, 51:])


def test_edits_are_applied_in_their_order_and_round_once() -> None:
    image = picture(4)
    half = torch.full((1, 1, 8, 8), 0.5)
    values = [encode_edits(edit(8, half, seed))[0] for seed in (1, 2)]
    exact = to_tensor(image[None])
    for value in values:
        exact = apply_edit(exact, decode_edit(value))
    np.testing.assert_array_equal(apply_edits(image, values), to_uint8(exact)[0])
    assert (apply_edits(image, values) != apply_edits(image, values[::-1])).any()


def test_no_edits_are_no_change() -> None:
    image = picture(5)
    np.testing.assert_array_equal(apply_edits(image, []), image)
