import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.edits import Edit, apply_edit, identity_theta
from pipelines.correction import full_size
from pipelines.correction.edit_codec import decode_edit, encode_edits
from pipelines.correction.full_size import apply_edits
from pipelines.pixels import to_tensor, to_uint8
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
    tile=st.integers(16, 80),
    seed=st.integers(0, 1000),
    moves=st.booleans(),
)
def test_tiles_show_no_seams(height: int, width: int, tile: int, seed: int, moves: bool) -> None:
    image = picture(seed, width, height)
    value = random_edit(seed, moves)
    whole = to_uint8(apply_edit(to_tensor(image[None]), decode_edit(value)))[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_size, "TILE", tile)
        tiled = apply_edits(image, [value])
    # One level: coordinates in float32 differ in their last bit.
    assert np.abs(tiled.astype(int) - whole).max() <= 1


def test_an_image_that_is_moved_out_of_the_frame_leaves_white() -> None:
    away = edit(8, torch.zeros(1, 1, 8, 8))._replace(theta=torch.tensor([[[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]]]))
    assert (apply_edits(picture(1, 300, 40), encode_edits(away)) == 255).all()


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


def test_an_edit_sees_the_image_as_the_one_before_left_it() -> None:
    image = picture(4)
    values = [random_edit(seed, moves=True) for seed in (1, 2)]
    np.testing.assert_array_equal(
        apply_edits(image, values), apply_edits(apply_edits(image, values[:1]), values[1:])
    )
    assert (apply_edits(image, values) != apply_edits(image, values[::-1])).any()


def test_no_edits_are_no_change() -> None:
    image = picture(5)
    np.testing.assert_array_equal(apply_edits(image, []), image)


def test_memory_is_bounded_by_the_uploads_bytes(repository: Path) -> None:
    megabytes = 6000 * 4000 * 3 >> 20
    code = """
import resource, numpy as np
from pipelines.correction.full_size import apply_edits
from tests.pipelines.correction.test_full_size import random_edit
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
