"""Encodes pixels deterministically, with the given metadata only."""

import io
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.errors import ConfigurationError
from pipelines.images.metadata import Metadata, save_options

#: Output formats and the file extension (without the dot) of each.
EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp"}


def encode_image(
    image: np.ndarray, format: str = "jpeg", quality: int = 92, metadata: Metadata | None = None
) -> bytes:
    """Encode `image`, uint8 (H,W,3) sRGB. The same pixels, settings and libraries give the same bytes.

    format: a key of EXTENSIONS. JPEG is 4:4:4, to keep the coloured edges of logos; WebP is lossy; PNG is lossless and
        ignores `quality`.
    quality: 1..100.
    metadata: what to write beside the pixels, see `pipelines.images.metadata`. None writes nothing: readers take
        untagged pixels for sRGB, which they are.

    Raises ConfigurationError for an unknown format or quality, ValueError for another dtype or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"encode_image takes uint8 (H,W,3), not {image.dtype} {image.shape}")
    check_encoding(format, quality)
    options: dict[str, dict[str, Any]] = {
        # No optimised Huffman tables: with them, Pillow's buffer overflows on noise-like images and saving fails.
        "jpeg": {"quality": quality, "subsampling": 0},
        "png": {"compress_level": 6},
        "webp": {"quality": quality, "method": 4},
    }
    extra = save_options(metadata, format) if metadata is not None else {}
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format.upper(), **options[format], **extra)
    return buffer.getvalue()


def decode_encoded(encoded: bytes) -> NDArray[np.uint8]:
    """Decode what `encode_image` returned to uint8 (H,W,3), in half the time of `decode_image`. Not for uploads."""
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return cast(NDArray[np.uint8], cv2.imdecode(np.frombuffer(encoded, np.uint8), flags))


def encode_mask(mask: np.ndarray) -> bytes:
    """Encode `mask`, uint8 (H,W), as a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def check_encoding(format: str, quality: int) -> None:
    """Raise ConfigurationError if `encode_image` would, so that a job can check before any work."""
    if format not in EXTENSIONS:
        raise ConfigurationError(f"unknown image format {format!r}; choose one of {', '.join(EXTENSIONS)}")
    if not 1 <= quality <= 100:
        raise ConfigurationError(f"--quality {quality}: image quality is 1 to 100")
