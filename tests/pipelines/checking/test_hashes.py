"""Hashes depend on the picture, not on its file."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.checking.hashes import NO_HASH, content_hash, luminance, perceptual_hash
from pipelines.images.decode import decode_image
from pipelines.images.encode import encode_image
from tests.checking_data import cropped, jpeg, texture


def distance(first: np.ndarray, second: np.ndarray) -> int:
    return (perceptual_hash(first) ^ perceptual_hash(second)).bit_count()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_enlarging_by_whole_pixels_changes_no_bit(seed: int, tall: int, wide: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    large = image.repeat(tall, axis=0).repeat(wide, axis=1)
    assert perceptual_hash(large) == perceptual_hash(image)


@given(st.integers(0, 2**32 - 1))
def test_the_negative_differs_in_every_bit(seed: int) -> None:
    """All frequencies change their sign, and so their side of the median: 64 values have no middle one."""
    grey = np.random.default_rng(seed).integers(0, 256, (32, 32, 1), dtype=np.uint8).repeat(3, axis=2)
    assert distance(grey, 255 - grey) == 64


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_near_and_others_are_far(seed: int) -> None:
    image = texture(seed)
    half = np.asarray(Image.fromarray(image).resize((48, 60), Image.Resampling.BICUBIC))
    darker = (image * 0.7).astype(np.uint8)
    for copy in (decode_image(jpeg(image, 40)), half, darker, cropped(image, 0.02)):
        assert distance(image, copy) <= 8
    assert distance(image, texture(seed + 100)) > 12


def test_a_symmetric_picture_keeps_its_hash_when_recompressed() -> None:
    """Half of its frequencies are 0 except for rounding errors, which must not decide bits."""
    image = np.full((128, 128, 3), 255, np.uint8)
    image[32:96, 48:80] = 40
    assert distance(image, decode_image(encode_image(image, "png"))) == 0
    assert distance(image, image[:, ::-1]) == 0


def test_a_flat_image_has_no_hash() -> None:
    assert perceptual_hash(np.full((40, 30, 3), 255, np.uint8)) == NO_HASH
    speckled = np.full((64, 64, 3), 250, np.uint8)
    speckled[::2, ::2] = 253  # a JPEG's traces on white
    assert perceptual_hash(speckled) == NO_HASH
    assert perceptual_hash(texture(0)) != NO_HASH


def test_luminance_is_the_mean_of_areas() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:2, :4] = 200
    assert luminance(image, 2).tolist() == [[200, 0], [0, 0]]


def test_equal_bytes_alone_have_an_equal_content_hash() -> None:
    buffer = io.BytesIO()
    Image.fromarray(texture(0)).save(buffer, "BMP")
    assert content_hash(buffer.getvalue()) == content_hash(bytes(buffer.getvalue()))
    assert content_hash(buffer.getvalue()) != content_hash(buffer.getvalue() + b"\0")
    assert 0 < content_hash(b"") < 2**64
