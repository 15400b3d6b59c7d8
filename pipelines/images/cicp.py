"""Makes an ICC profile from colours that an image names by number (ISO/IEC 23091-2, "CICP").

HEIC and AVIF without a profile name their colours so. If the numbers were ignored, a picture in Display P3 would look
dull.
"""

import struct
from functools import lru_cache

import numpy as np

from pipelines.images.metadata import srgb_profile

#: Transfer characteristics of pictures brighter than white: PQ and HLG. There is no agreed way to display them as SDR.
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}

#: Chromaticities of red, green and blue by number, if their white is that of sRGB. 2 means "unspecified": sRGB.
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_BT601 = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
_PRIMARIES = {
    1: _BT709,
    2: _BT709,
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: _BT601,
    7: _BT601,
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
#: Exponents by number. As in browsers, the curves of television cameras (1, 6, 14, 15) are treated as sRGB's (13).
_SRGB_CURVES = (1, 2, 6, 13, 14, 15)
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_D65 = np.array([0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290])


@lru_cache(maxsize=16)
def profile_of(primaries: int, transfer: int) -> bytes | None:
    """Return an ICC profile for such RGB; None if it is sRGB, or unknown and therefore treated as sRGB."""
    if primaries not in _PRIMARIES or transfer not in (*_SRGB_CURVES, *_GAMMAS):
        return None
    if _PRIMARIES[primaries] is _BT709 and transfer in _SRGB_CURVES:
        return None
    profile = bytearray(srgb_profile())
    (count,) = struct.unpack_from(">I", profile, 128)
    offsets = dict(struct.unpack_from(">4sI", profile, 132 + 12 * entry) for entry in range(count))
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in _PRIMARIES[primaries]]).T
    to_d65 = columns * np.linalg.solve(columns, _D65)
    to_d50 = np.reshape(struct.unpack_from(">9i", profile, offsets[b"chad"] + 8), (3, 3)) / 65536 @ to_d65
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), to_d50.T, strict=True):
        struct.pack_into(">3i", profile, offsets[name] + 8, *_fixed(column))
    if transfer in _GAMMAS:  # ICC.1:2010, 10.16: type 3 with a linear part of no length
        for name in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">5i", profile, offsets[name] + 12, *_fixed([_GAMMAS[transfer], 1, 0, 0, 0]))
    return bytes(profile)


def _fixed(values: np.ndarray | list[float]) -> list[int]:
    """Return the values as s15Fixed16Number (ICC.1:2010, 4.6)."""
    return [round(65536 * float(value)) for value in values]
