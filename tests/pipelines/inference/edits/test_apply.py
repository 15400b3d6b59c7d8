import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.edits import Edit, identity_theta
from model.edits import apply_edit as plain_edit
from pipelines.images.pixels import to_tensor, to_uint8
from pipelines.images.resize import resize_bicubic
from pipelines.inference.edits.apply import apply_edits
from pipelines.inference.edits.codec import decode_edit, encode_edits
from tests.catalogs import picture


def edit(side: int, matte: torch.Tensor, seed: int = 0) -> Edit:
    content = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Edit(identity_theta(1), content, matte)


def random_edit(seed: int, moves: bool) -> dict[str, bytes]:
    """An edit that turns, scales, shears and shifts a little, or leaves the image in place, and paints half of it."""
    generator = torch.Generator().manual_seed(seed)
    matte = torch.rand(1, 1, 8, 8, generator=generator)
    matte[..., :4] = 0
    theta = identity_theta(1) + moves * 0.6 * (torch.rand(1, 2, 3, generator=generator) - 0.5)
    return encode_edits(edit(8, matte, seed)._replace(theta=theta))[0]


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 1000),
    is_background=st.booleans(),
)
def test_any_size_keeps_what_is_not_painted(height: int, width: int, seed: int, is_background: bool) -> None:
    image = picture(seed, width, height)
    edited = apply_edits(image, [random_edit(seed, moves=False)], [is_background])
    unpainted = edited.matte == 0
    np.testing.assert_array_equal(edited.image[unpainted], image[unpainted])


def test_pictures_of_any_length_are_moved() -> None:
    """Some resamplers count pixels in 16 bits."""
    image = picture(2, 40_000, 3)
    shifted = edit(8, torch.zeros(1, 1, 8, 8))._replace(
        theta=torch.tensor([[[1.0, 0.0, 2 * 100 / 40_000], [0.0, 1.0, 0.0]]])
    )
    result = apply_edits(image, encode_edits(shifted)).image.astype(int)
    assert np.abs(result[:, :-100] - image[:, 100:]).max() <= 2
    assert (result[:, -100:] == 255).all()


def test_an_image_that_is_moved_out_of_the_frame_leaves_white() -> None:
    away = edit(8, torch.zeros(1, 1, 8, 8))._replace(theta=torch.tensor([[[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]]]))
    assert (apply_edits(picture(1, 300, 40), encode_edits(away)).image == 255).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(10, 70), st.integers(10, 70), st.integers(0, 100))
def test_pixels_outside_the_matte_are_the_uploads_own(width: int, height: int, seed: int) -> None:
    image = picture(seed, width, height)
    almost_none = torch.full((1, 1, 8, 8), 0.001)  # what a sigmoid calls zero
    edited = apply_edits(image, encode_edits(edit(8, almost_none)))
    np.testing.assert_array_equal(edited.image, image)
    assert not edited.matte.any()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.booleans())
def test_an_upload_of_the_edits_own_size_gets_exactly_the_generators_answer(seed: int, moves: bool) -> None:
    image = picture(seed, 8, 8)
    value = random_edit(seed, moves=False)
    expected = to_uint8(plain_edit(to_tensor(image[None]), decode_edit(value)))[0]
    assert np.abs(apply_edits(image, [value]).image.astype(int) - expected).max() <= 1


def test_an_edit_is_applied_at_the_uploads_resolution() -> None:
    image = picture(2, 90, 50)
    matte = torch.zeros(1, 1, 8, 8)
    matte[..., :4] = 1
    painted = edit(8, matte)._replace(content=torch.full((1, 3, 8, 8), 1.0))
    result = apply_edits(image, encode_edits(painted))
    assert result.image.shape == image.shape
    # Beyond one and a half of the edit's pixels from the seam, each 11 of the upload's.
    assert (result.image[:, :28] == 255).all()
    assert (result.matte[:, :28] == 255).all()
    np.testing.assert_array_equal(result.image[:, 62:], image[:, 62:])
    assert not result.matte[:, 62:].any()
    untouched = result.matte == 0
    np.testing.assert_array_equal(result.image[untouched], image[untouched])


@pytest.mark.parametrize("edge", [251, 256, 262])
def test_paint_ends_at_the_uploads_edge_not_at_the_edits_pixels(edge: int) -> None:
    """A dark product before a light background: the matte of 32 pixels says where to within 16 of the upload's."""
    noise = np.random.default_rng(edge).integers(-6, 7, (512, 512, 3))
    image = (np.where(np.arange(512)[None, :, None] < edge, 60, 190) + noise).astype(np.uint8)
    columns = torch.arange(512) >= edge
    matte = columns.float().reshape(1, 1, 1, 32, 16).mean(-1).expand(1, 1, 32, 32)
    white = edit(32, matte)._replace(content=torch.ones(1, 3, 32, 32))
    result = apply_edits(image, encode_edits(white)).image.astype(int)
    product, background = result[:, :edge], result[:, edge:]
    assert np.abs(product - image[:, :edge]).max() <= 20
    assert background.min() >= 235


def test_paint_that_is_the_upload_brightened_keeps_its_detail() -> None:
    """What a repainting generator (the direct head) did to the small image is done to the upload's own pixels."""
    weave = np.random.default_rng(0).integers(0, 2, (64, 64, 1)).repeat(4, 0).repeat(4, 1)
    image = (weave * 80 + np.array([40, 60, 80])).astype(np.uint8)
    image[100:140] = 90
    small = to_tensor(resize_bicubic(image, 32, 32)[None])
    brightened = Edit(identity_theta(1), small * 0.5 + 0.5, torch.ones(1, 1, 32, 32))
    result = apply_edits(image, encode_edits(brightened)).image.astype(float)
    assert np.abs(result - (image.astype(float) * 0.5 + 127.5)).mean() < 4


def test_the_upload_is_moved_itself() -> None:
    image = picture(6, 64, 48)
    flip = edit(8, torch.zeros(1, 1, 8, 8))._replace(
        theta=torch.tensor([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    )
    np.testing.assert_array_equal(apply_edits(image, encode_edits(flip)).image, image[:, ::-1])


def test_an_edit_sees_the_image_as_the_one_before_left_it() -> None:
    image = picture(4)
    values = [random_edit(seed, moves=True) for seed in (1, 2)]
    np.testing.assert_array_equal(
        apply_edits(image, values).image,
        apply_edits(apply_edits(image, values[:1]).image, values[1:]).image,
    )
    assert (apply_edits(image, values).image != apply_edits(image, values[::-1]).image).any()


def test_no_edits_are_no_change() -> None:
    image = picture(5)
    edited = apply_edits(image, [])
    np.testing.assert_array_equal(edited.image, image)
    assert not edited.matte.any()


def test_memory_is_bounded_by_the_uploads_bytes(repository: Path) -> None:
    megabytes = 6000 * 4000 * 3 >> 20
    code = """
import resource, numpy as np
from pipelines.inference.edits.apply import apply_edits
from tests.pipelines.inference.edits.test_apply import random_edit
value = random_edit(1, True)
apply_edits(np.zeros((300, 300, 3), np.uint8), [value])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
apply_edits(np.zeros((6000, 4000, 3), np.uint8), [value])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    # The image before and after; in float32 it alone would be four times its bytes.
    assert int(done.stdout) < 3 * megabytes
