import io

import numpy as np
import pytest
from PIL import Image

from pipelines.images.decode import ImageError, decode_image
from pipelines.sample_catalog.encoding import BROKEN, ENCODINGS, broken_upload, encode_mask, encode_upload


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture() -> np.ndarray:
    """Return a picture without any symmetry, smooth, with a white rim."""
    y, x = np.mgrid[:96, :64]
    image = np.stack([40 + 2 * y, 60 + 2 * x, 200 - y], axis=-1)
    image[(x < 6) | (x > 50) | (y < 12) | (y > 80)] = 255
    return image.astype(np.uint8)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_shows_the_picture_upright(encoding: str) -> None:
    for seed in range(6):
        data = encode_upload(picture(), encoding, generator(seed))
        upright = decode_image(data).astype(int)
        assert upright.shape == picture().shape
        assert np.abs(upright - picture()).mean() < 4
        assert data == encode_upload(picture(), encoding, generator(seed))


def test_odd_encodings_have_their_formats() -> None:
    def opened(encoding: str) -> Image.Image:
        return Image.open(io.BytesIO(encode_upload(picture(), encoding, generator())))

    assert (opened("jpeg").format, opened("png").format) == ("JPEG", "PNG")
    assert opened("exif").getexif()[0x0112] in (3, 6, 8)
    assert opened("cmyk").mode == "CMYK"
    transparent = np.asarray(opened("alpha"))
    assert transparent.shape == (96, 64, 4)
    assert set(np.unique(transparent[..., 3])) == {0, 255}
    assert transparent[0, 0].tolist() == [0, 0, 0, 0], "a reader that drops alpha would see white"


def test_mask_files_hold_256_levels() -> None:
    mask = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_mask(mask)))).ravel(), np.arange(256))


@pytest.mark.parametrize(
    ("kind", "code"),
    [("corrupt", "corrupt"), ("empty", "empty"), ("truncated", "truncated"), ("html", "unknown_format")],
)
def test_broken_files_cannot_be_decoded(kind: str, code: str) -> None:
    for seed in range(8):
        source = broken_upload(kind, "item", picture(), generator(seed))
        assert source["uri"] is None
        assert isinstance(source["image"], bytes)
        with pytest.raises(ImageError) as caught:
            decode_image(source["image"])
        assert caught.value.code == code


def test_sources_that_are_missing() -> None:
    assert broken_upload("no_source", "item", picture(), generator()) == {"image": None, "uri": None}
    missing = broken_upload("missing_file", "item", picture(), generator())
    assert missing["image"] is None
    assert str(missing["uri"]).startswith("file:///")
    assert "item" in str(missing["uri"])


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'gif'.*jpeg"):
        encode_upload(picture(), "gif", generator())
    with pytest.raises(ValueError, match=f"'wet'.*{BROKEN[0]}"):
        broken_upload("wet", "item", picture(), generator())
