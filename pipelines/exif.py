"""The few EXIF tags that this project needs, read from a stranger's bytes in bounded time.

A general reader follows every offset and copies every value: a table of 65,535 entries that each point at the whole
file keeps it busy for minutes. This one looks at the first directory only, and copies what was asked for.
"""

import struct
from collections.abc import Mapping

#: EXIF 2.3, table 3 and 4: TIFF tags of the first image directory.
ORIENTATION, ARTIST, COPYRIGHT = 0x0112, 0x013B, 0x8298

#: Entries looked at; cameras write some fifteen.
_MOST_ENTRIES = 512
#: Bytes of a text that are read.
MAX_TEXT_BYTES = 4096
_ASCII, _NUMBERS = 2, {1: "B", 3: "H", 4: "I"}  # TIFF 6.0, section 2: BYTE, SHORT, LONG
_UTF8 = 129  # EXIF 3.0


def read_exif(exif: bytes) -> Mapping[int, int | bytes]:
    """Numbers and texts of the first directory by tag; empty where `exif` is nonsense. Raises nothing.

    exif: a TIFF structure, with or without the prefix "Exif\\0\\0". Texts are as stored, at most MAX_TEXT_BYTES.
    """
    view = memoryview(exif)
    if bytes(view[:6]) == b"Exif\0\0":
        view = view[6:]
    order = {b"II": "<", b"MM": ">"}.get(bytes(view[:2]))
    found: dict[int, int | bytes] = {}
    if order is None:
        return found
    try:
        magic, at = struct.unpack_from(order + "HI", view, 2)
        (count,) = struct.unpack_from(order + "H", view, at)
        if magic != 42:
            return found
        for entry in range(at + 2, at + 2 + 12 * min(count, _MOST_ENTRIES), 12):
            tag, kind, number = struct.unpack_from(order + "HHI", view, entry)
            if kind in _NUMBERS and number == 1:
                found.setdefault(tag, struct.unpack_from(order + _NUMBERS[kind], view, entry + 8)[0])
            elif kind in (_ASCII, _UTF8):
                start = entry + 8 if number <= 4 else struct.unpack_from(order + "I", view, entry + 8)[0]
                text = bytes(view[start : start + min(number, MAX_TEXT_BYTES)])
                if len(text) == min(number, MAX_TEXT_BYTES):
                    found.setdefault(tag, text)
    except struct.error:  # it ends within the directory: what came before is as good as any
        return found
    return found


def write_exif(texts: Mapping[int, bytes]) -> bytes:
    """A TIFF structure, without prefix, whose only directory has these texts by tag. The same texts, the same bytes."""
    entries, values = b"", b""
    start = 8 + 2 + 12 * len(texts) + 4  # behind header and directory
    for tag, text in sorted(texts.items()):
        text = text.replace(b"\0", b"") + b"\0"
        if len(text) <= 4:
            place = text.ljust(4, b"\0")
        else:
            place = struct.pack(">I", start + len(values))
            values += text + b"\0" * (len(text) % 2)  # values begin at even offsets
        entries += struct.pack(">HHI", tag, _ASCII, len(text)) + place
    return b"MM\0*" + struct.pack(">IH", 8, len(texts)) + entries + bytes(4) + values
