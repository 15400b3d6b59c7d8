"""How many scans a JPEG's picture has, by its markers (ITU T.81, annex B)."""

import re

#: A marker: in a scan's data 0xFF is followed by 0x00 or is a restart; before a marker it may be repeated.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_WITHOUT_LENGTH = (0x01, 0xD8)
_END, _SCAN = 0xD9, 0xDA
#: Segments that are looked at; cameras and editors write some hundred.
_MOST_MARKERS = 10_000


def has_more_scans(data: bytes, most: int) -> bool:
    """Whether the picture has more than `most` scans. What lies behind its end does not count: a telephone's moving
    picture has megabytes of video there, in which any two bytes occur. A file of more than ten thousand segments counts
    as having more: each costs readers time, too.
    """
    at = scans = 0
    for _ in range(_MOST_MARKERS):
        found = _MARKER.search(data, at)
        if found is None or scans > most:
            return scans > most
        marker, at = found[1][0], found.end()
        if marker == _END:
            return False
        scans += marker == _SCAN
        if marker not in _WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")
    return True
