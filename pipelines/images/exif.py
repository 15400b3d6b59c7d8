"""The few EXIF tags that this project needs, by Pillow."""

from collections.abc import Mapping
from typing import Any

from PIL import Image

#: EXIF 2.3, table 3 and 4: TIFF tags of the first image directory.
ORIENTATION, ARTIST, COPYRIGHT = 0x0112, 0x013B, 0x8298

#: What is read of an upload's EXIF data: a segment of JPEG holds no more. Without a bound each of 65,535 entries may
#: point at megabytes, which Pillow copies: photos of training shards are decoded without limits of memory.
_MOST_BYTES = 1 << 16


def read_exif(exif: bytes) -> Mapping[int, Any]:
    """Numbers and texts of the first directory by tag; empty where `exif` is nonsense. Raises nothing.

    exif: a TIFF structure, with or without the prefix "Exif\\0\\0". Texts are bytes as stored, in UTF-8 or Latin-1.
    """
    found: dict[int, Any] = {}
    tags = Image.Exif()
    try:
        tags.load(bytes(exif[:_MOST_BYTES]))
        for tag in (ORIENTATION, ARTIST, COPYRIGHT):
            if tag in tags:
                value = tags[tag]
                # Pillow reads texts as Latin-1, which keeps every byte.
                found[tag] = value.encode("latin-1") if isinstance(value, str) else value
    except Exception:  # noqa: BLE001 (Pillow raises whatever hostile bytes make of its code)
        return found
    return found


def write_exif(texts: Mapping[int, bytes]) -> bytes:
    """EXIF data, with its prefix, whose only directory has these texts by tag. The same texts, the same bytes."""
    tags = Image.Exif()
    for tag, text in texts.items():
        tags[tag] = text
    return tags.tobytes()
