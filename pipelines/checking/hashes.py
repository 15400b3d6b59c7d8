"""What an image looks like in 64 bits, and which bytes it is made of in 64 bits.

The perceptual hash follows Zauner (2010, "Implementation and benchmarking of perceptual image hash functions"): which
of the lowest frequencies of the luminance's cosine transform are above their median. Twelve lines over scipy, which
is here anyway; packages for it open files by themselves, and hostile bytes must pass `pipelines.images.decode` alone.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

#: Longer side, pixels, to which an image is decoded for its hash: a JPEG's decoder then skips most of the work.
DECODED_SIDE = 128
#: No hash: the image is missing, cannot be read, or is flat. Some frequency of any other is above the median.
NO_HASH = 0

_SIDE = 32
_BITS = 64
#: Standard deviation of luminance (0..255) below which there is nothing to compare: blank tiles all look alike.
_FLAT = 2.0
_rows, _columns = np.indices((_SIDE, _SIDE))
#: The 64 lowest frequencies, diagonal by diagonal, without the mean, so that brightness does not count. Every third
#: goes to the same word: the matcher looks words up, and neighbouring frequencies say much the same.
_lowest = np.argsort(_rows + _columns, axis=None, kind="stable")[1 : 1 + _BITS]
_FREQUENCIES = np.concatenate([_lowest[0::3], _lowest[1::3], _lowest[2::3]])


def luminance(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """uint8 (H,W,3) to uint8 (side,side), averaged over areas; the aspect ratio is given up."""
    grey = Image.fromarray(image).convert("L").resize((side, side), Image.Resampling.BOX)
    return np.asarray(grey)


def perceptual_hash(image: NDArray[np.uint8]) -> int:
    """64 bits of uint8 (H,W,3); the fewer bits differ, the more alike two images are. NO_HASH for a flat one.

    In photos half of the bits are set, so distances are even. Measured on clothing photos (600 changed copies): JPEG at
    quality 40 and half the size keep within 4 bits, brightness +25% within 8 for 95%, a crop of 2% for 98%, of 4% for
    75%. Different products of one outline, on white, come as near as 2: what a hash finds has to be looked at.
    """
    grey = luminance(image, _SIDE).astype(np.float64)
    if grey.std() < _FLAT:
        return NO_HASH
    # Rounded: of a drawn, symmetric picture half of them are 0, and rounding errors would decide their bits.
    lowest = np.round(dctn(grey, norm="ortho").ravel()[_FREQUENCIES], 3)
    return int.from_bytes(np.packbits(lowest > np.median(lowest)).tobytes(), "big")


def content_hash(data: bytes) -> int:
    """64 bits of SHA-256 of the encoded bytes, never 0. Among ten million images two share one by accident once in
    three hundred thousand datasets.
    """
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") or 1
