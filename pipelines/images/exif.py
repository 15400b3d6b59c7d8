"""Reads and writes the few EXIF tags that this project needs, with Pillow."""

from collections.abc import Mapping
from typing import Any

from PIL import Image

#: EXIF 2.3, table 3 and 4: TIFF tags of the first image directory.
ORIENTATION, ARTIST, COPYRIGHT = 0x0112, 0x013B, 0x8298

#: How much of an upload's EXIF data is read; a segment of JPEG holds no more. Without a limit, each of 65,535 entries
#: could point at megabytes, which Pillow copies; and photos of training shards are decoded without memory limits.
_MOST_BYTES = 1 << 16


def read_exif(exif: bytes) -> Mapping[int, Any]:
    """Return numbers and texts of the first directory by tag; empty if `exif` is damaged. Raises nothing.

    exif: a TIFF structure, with or without the prefix "Exif\\0\\0". Texts are bytes as stored, in UTF-8 or Latin-1.
    """
    values: dict[int, Any] = {}
    tags = Image.Exif()
    try:
        tags.load(bytes(exif[:_MOST_BYTES]))
        for tag in (ORIENTATION, ARTIST, COPYRIGHT):
            if tag in tags:
                value = tags[tag]
                # Pillow reads texts as Latin-1, which keeps every byte.
                values[tag] = value.encode("latin-1") if isinstance(value, str) else value
    except Exception:  # noqa: BLE001 (hostile bytes can make Pillow raise anything)
        return values
    return values


def write_exif(texts: Mapping[int, bytes]) -> bytes:
    """Return EXIF data, with its prefix, that holds these texts by tag. Equal texts give equal bytes."""
    tags = Image.Exif()
    for tag, text in texts.items():
        tags[tag] = text
    return tags.tobytes()
