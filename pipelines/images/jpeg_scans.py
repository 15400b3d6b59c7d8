"""Counts the scans of a JPEG's picture by its markers (ITU T.81, annex B)."""

import re

#: A marker. Within a scan's data, 0xFF is followed by 0x00 or begins a restart marker; before a marker it may repeat.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_WITHOUT_LENGTH = (0x01, 0xD8)
_END, _SCAN = 0xD9, 0xDA
#: Segments that are read at most; cameras and editors write some hundred.
_MOST_MARKERS = 10_000


def has_more_scans(data: bytes, most: int) -> bool:
    """Return True if the picture has more than `most` scans, or the file more than ten thousand segments.

    Segments count because each costs readers time, too. Bytes after the picture's end do not count: a phone's motion
    photo has megabytes of video there, in which any two bytes occur.
    """
    at = scans = 0
    for _ in range(_MOST_MARKERS):
        match = _MARKER.search(data, at)
        if match is None or scans > most:
            return scans > most
        marker, at = match[1][0], match.end()
        if marker == _END:
            return False
        scans += marker == _SCAN
        if marker not in _WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")
    return True
