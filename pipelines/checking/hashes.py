"""Hashes images in two ways, with 64 bits each: by their looks, and by their bytes.

The perceptual hash follows Zauner (2010, "Implementation and benchmarking of perceptual image hash functions"): its
bits say which of the lowest frequencies of the luminance's cosine transform are above their median. It is written here,
with scipy, because packages for it open files themselves, and only `pipelines.images.decode` may read hostile bytes.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

#: Longer side in pixels to which an image is decoded for its hash; a JPEG decoder then skips most of the work.
DECODED_SIDE = 128
#: No hash: the image is missing, unreadable or flat. Every other image has a frequency above the median.
NO_HASH = 0

_SIDE = 32
_BITS = 64
#: Standard deviation of luminance (0..255) below which images are not compared: blank tiles all look alike.
_FLAT = 2.0
_rows, _columns = np.indices((_SIDE, _SIDE))
#: The 64 lowest frequencies, diagonal by diagonal, without the mean, so that brightness does not count. They go to the
#: matcher's three words in turn, because neighbouring frequencies are much alike.
_lowest = np.argsort(_rows + _columns, axis=None, kind="stable")[1 : 1 + _BITS]
_FREQUENCIES = np.concatenate([_lowest[0::3], _lowest[1::3], _lowest[2::3]])


def luminance(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the luminance of uint8 (H,W,3) as uint8 (side,side), averaged over areas; the aspect ratio is lost."""
    grey = Image.fromarray(image).convert("L").resize((side, side), Image.Resampling.BOX)
    return np.asarray(grey)


def perceptual_hash(image: NDArray[np.uint8]) -> int:
    """Return 64 bits of uint8 (H,W,3); the fewer bits differ, the more alike two images are. NO_HASH for a flat image.

    In photos half of the bits are set, so that distances are even. Measured on clothing photos (600 changed copies):
    JPEG at quality 40 and half the size stay within 4 bits. Within 8 bits stay 95% with +25% brightness, 98% with a
    crop of 2%, and 75% with a crop of 4%. Different products of one outline, on white, may differ in only 2 bits: a
    small distance proves nothing.
    """
    grey = luminance(image, _SIDE).astype(np.float64)
    if grey.std() < _FLAT:
        return NO_HASH
    # Rounded: in a drawn, symmetric picture half of them are 0, and rounding errors would decide their bits.
    lowest = np.round(dctn(grey, norm="ortho").ravel()[_FREQUENCIES], 3)
    return int.from_bytes(np.packbits(lowest > np.median(lowest)).tobytes(), "big")


def content_hash(data: bytes) -> int:
    """Return 64 bits of SHA-256 of the encoded bytes, never 0. Two of ten million images share one by accident in one
    of three hundred thousand datasets.
    """
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") or 1
