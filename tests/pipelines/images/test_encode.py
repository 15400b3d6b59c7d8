import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.errors import ConfigurationError
from pipelines.images.decode import decode_image
from pipelines.images.encode import EXTENSIONS, check_encoding, decode_encoded, encode_image
from pipelines.images.metadata import Metadata
from tests.catalogs import picture
from tests.hostile_images import drawing, odd_images


@pytest.mark.parametrize(("format", "tolerance"), [("jpeg", 8), ("png", 0), ("webp", 16)])
def test_pixels_survive_encoding_and_decoding(format: str, tolerance: int) -> None:
    pixels = drawing()
    data = encode_image(pixels, format)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == format.upper()
    assert np.abs(decode_image(data).astype(int) - pixels).max() <= tolerance
    assert encode_image(pixels.copy(), format) == data


PROGRAM = """
import hashlib, sys
import numpy as np
from pipelines.images.encode import EXTENSIONS, encode_image
pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(60, 80, 3)
for format in EXTENSIONS:
    print(hashlib.sha256(encode_image(pixels, format, 90)).hexdigest())
"""


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(EXTENSIONS)), st.integers(16, 70), st.integers(16, 70), st.integers(0, 999))
def test_own_files_are_decoded_as_any_file(format: str, width: int, height: int, seed: int) -> None:
    encoded = encode_image(picture(seed, width, height), format, metadata=Metadata(copyright="Luma Store"))
    np.testing.assert_array_equal(decode_encoded(encoded), decode_image(encoded))


def test_another_process_writes_the_same_bytes() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (60, 80, 3), np.uint8)
    other = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=pixels.tobytes(), capture_output=True, check=True
    )
    here = [hashlib.sha256(encode_image(pixels, format, 90)).hexdigest() for format in EXTENSIONS]
    assert other.stdout.decode().split() == here


@pytest.mark.parametrize("format", EXTENSIONS)
@pytest.mark.parametrize("quality", [50, 75, 92, 100])
def test_white_stays_white(format: str, quality: int) -> None:
    white = np.full((70, 90, 3), 255, np.uint8)
    assert (decode_image(encode_image(white, format, quality)) == 255).all()


def test_jpeg_keeps_colour_at_full_resolution() -> None:
    stripes = np.full((32, 32, 3), 255, np.uint8)
    stripes[:, ::2] = (255, 0, 0)  # subsampled chroma would mix red and white columns to pink
    assert np.abs(decode_image(encode_image(stripes, "jpeg", 95)).astype(int) - stripes).max() < 20


def test_a_higher_quality_takes_more_bytes() -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for format in ("jpeg", "webp"):
        assert len(encode_image(noisy, format, 50)) < len(encode_image(noisy, format, 95))


@pytest.mark.parametrize("format", EXTENSIONS)
def test_nothing_of_the_upload_but_pixels_is_written(format: str) -> None:
    for name in (
        "jpeg, orientation 6",
        "jpeg, swapped profile",
        "alpha png, swapped profile",
        "webp, orientation 8",
    ):
        with Image.open(io.BytesIO(encode_image(decode_image(odd_images()[name][0]), format))) as image:
            image.load()
            assert not image.getexif()
            assert not {"exif", "icc_profile", "xmp", "comment"} & set(image.info)


def test_wrong_settings_are_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="jpeg, png, webp"):
        check_encoding("gif", 92)
    with pytest.raises(ConfigurationError, match=r"--quality 0: image quality is 1 to 100"):
        encode_image(drawing(), "jpeg", 0)


def test_other_arrays_are_refused() -> None:
    for wrong in (drawing().astype(np.float32), drawing()[..., 0], drawing()[None]):
        with pytest.raises(ValueError, match="uint8"):
            encode_image(wrong)


@pytest.mark.parametrize("quality", [85, 100])
def test_noise_can_be_encoded(quality: int) -> None:
    """Pictures of gravel or lace are close to noise; an encoder that sizes its buffer by averages fails on them."""
    noise = np.random.default_rng(1).integers(0, 256, (600, 500, 3), np.uint8)
    assert decode_image(encode_image(noise, "jpeg", quality)).shape == noise.shape
