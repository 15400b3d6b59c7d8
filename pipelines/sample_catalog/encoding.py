"""Encodings of sample uploads: mostly JPEG, odd cases that shops meet, and broken files."""

import io
from typing import Any

import numpy as np
from PIL import Image

#: `exif`: stored turned, with an orientation tag. `cmyk`: Adobe's inverted. `alpha`: white is transparent.
ENCODINGS = ("jpeg", "png", "exif", "cmyk", "alpha")
#: Kinds of broken rows. `no_source`: neither bytes nor a uri; `missing_file`: a uri of a file that does not exist.
BROKEN = ("corrupt", "empty", "truncated", "html", "missing_file", "no_source")

_ORIENTATION = 0x0112
#: EXIF orientation -> quarter turns counter-clockwise from the upright picture to the stored one.
_STORED_TURNS = {3: 2, 6: 1, 8: 3}
_HTML = (
    b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>No such image.</body></html>\n"
)


def encode_jpeg(image: np.ndarray, quality: int, subsampling: int = 2, **options: Any) -> bytes:
    """Return JPEG of uint8 (H, W, 3); subsampling 0 is 4:4:4, 2 is 4:2:0."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=subsampling, **options)
    return buffer.getvalue()


def encode_mask(mask: np.ndarray) -> bytes:
    """Return an 8-bit grey PNG of float (H, W) in [0, 1]."""
    return _png(Image.fromarray(np.rint(mask * 255).astype(np.uint8)))


def encode_upload(image: np.ndarray, encoding: str, rng: np.random.Generator) -> bytes:
    """Return uint8 (H, W, 3) in one of ENCODINGS; JPEG quality is 80 to 95."""
    quality = int(rng.integers(80, 96))
    subsampling = 0 if rng.random() < 0.3 else 2
    if encoding == "jpeg":
        return encode_jpeg(image, quality, subsampling)
    if encoding == "png":
        return _png(Image.fromarray(image))
    if encoding == "exif":
        orientation = int(rng.choice(list(_STORED_TURNS)))
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        stored = np.ascontiguousarray(np.rot90(image, _STORED_TURNS[orientation]))
        return encode_jpeg(stored, quality, subsampling, exif=exif)
    if encoding == "cmyk":
        buffer = io.BytesIO()
        Image.fromarray(image).convert("CMYK").save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()
    if encoding == "alpha":
        opaque = np.asarray((image < 255).any(axis=-1))
        pixels = np.dstack([image * opaque[..., None], opaque * np.uint8(255)])  # black where transparent
        return _png(Image.fromarray(pixels))
    raise ValueError(f"unknown encoding {encoding!r}; one of {', '.join(ENCODINGS)}")


def broken_upload(
    kind: str, image_id: str, image: np.ndarray, rng: np.random.Generator
) -> dict[str, bytes | str | None]:
    """Return `image` and `uri` of a row of a kind in BROKEN, made from a photo uint8 (H, W, 3)."""
    if kind == "no_source":
        return {"image": None, "uri": None}
    if kind == "missing_file":
        return {"image": None, "uri": f"file:///no-such-folder/{image_id}.jpg"}
    if kind == "empty":
        return {"image": b"", "uri": None}
    if kind == "html":
        return {"image": _HTML, "uri": None}
    data = encode_jpeg(image, 88)
    if kind == "truncated":
        return {"image": data[: int(len(data) * rng.uniform(0.2, 0.7))], "uri": None}
    if kind == "corrupt":  # the header is intact and gives a size; the first Huffman table is invalid
        table = data.index(b"\xff\xc4")
        end = table + 2 + int.from_bytes(data[table + 2 : table + 4], "big")
        garbage = b"\xff" * (end - table - 5)
        return {"image": data[: table + 5] + garbage + data[end:], "uri": None}
    raise ValueError(f"unknown kind of broken file {kind!r}; one of {', '.join(BROKEN)}")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
