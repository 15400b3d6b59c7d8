import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.edits import Edit, identity_theta
from pipelines.images.pixels import to_tensor, to_uint8
from pipelines.inference.edits.codec import SURE, decode_edit, encode_edits

images = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.just(3)))


@given(images)
def test_pixels_survive_the_way_to_a_tensor_and_back(image: np.ndarray) -> None:
    tensor = to_tensor(image)
    assert tensor.shape == (image.shape[0], 3, *image.shape[1:3])
    assert float(tensor.min()) >= -1
    assert float(tensor.max()) <= 1
    np.testing.assert_array_equal(to_uint8(tensor), image)


def edit(height: int, width: int, matte: torch.Tensor, seed: int = 0) -> Edit:
    content = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Edit(identity_theta(1), content, matte)


def test_an_edit_travels_within_half_a_level() -> None:
    original = edit(8, 4, torch.rand(1, 1, 8, 4, generator=torch.Generator().manual_seed(1)))._replace(
        theta=torch.tensor([[[0.9, -0.1, 0.05], [0.1, 0.9, -0.2]]])
    )
    (value,) = encode_edits(original)
    assert len(value["theta"]) == 24
    assert len(value["content"]) == 8 * 4 * 3
    assert len(value["matte"]) == 8 * 4
    found = decode_edit(value)
    torch.testing.assert_close(found.theta, original.theta, rtol=0, atol=0)
    torch.testing.assert_close(found.content, original.content, rtol=0, atol=1.001 / 255)
    stretched = ((original.matte - SURE) / (1 - 2 * SURE)).clamp(0, 1)
    torch.testing.assert_close(found.matte, stretched, rtol=0, atol=0.501 / 255)


@given(st.floats(0, 1, width=32))
def test_a_matte_that_is_nearly_sure_becomes_sure_and_none_moves_far(matte: float) -> None:
    found = float(decode_edit(encode_edits(edit(1, 1, torch.full((1, 1, 1, 1), matte)))[0]).matte)
    if matte <= SURE:
        assert found == 0
    elif matte >= 1 - SURE:
        assert found == 1
    assert abs(found - matte) <= SURE + 0.51 / 255
