"""Decides whether two images show the same picture: their details correlate at the best scale and position.

A perceptual hash describes outlines, and every T-shirt on white has the same one. Texture, seams and prints make the
difference. A band-pass filter keeps them; dividing by local contrast and clipping keeps outlines from dominating.
Measured on 600 pairs of different clothing photos whose hashes differ in at most 8 of 64 bits: 0.854 at most. Changed
copies (a quarter brighter, cropped by 4 or 8%, cropped, shrunk and recompressed): 0.905 or more for 97 of 100, and
never below 0.877. Products of exactly the same outline without any texture, such as drawn ones, cannot be
distinguished: to this measure they are the same picture in another colour.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

#: Correlation from which on two images show the same picture.
SAME_PICTURE = 0.88
#: Side of the luminance that the driver sends to be compared.
GREY_SIDE = 96

_SIDE = 64
#: Sides at which the second image is compared with the first, at side 64: one may be a crop of nine tenths.
_SIDES = range(58, 72)
#: Pixels cut off around the second image, so that it can move inside the first.
_MARGIN = 8
#: Standard deviations of the band-pass in pixels: compression noise is finer, outlines and light are coarser.
_FINE, _COARSE = 0.7, 2.5
#: Standard deviation of the window in which contrast is measured, in pixels, and contrast in grey levels below which
#: detail is noise.
_AROUND, _NOISE = 4.0, 2.0


def similarity(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the highest normalised cross-correlation, -1..1, of two luminances of (GREY_SIDE, GREY_SIDE).

    Takes about 20 ms of a core. Flat images have no details, and give 0.
    """
    whole = _details(first, _SIDE)
    return max(
        _correlation(whole, _details(second, side)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]) for side in _SIDES
    )


def _details(grey: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    resized = Image.fromarray(grey).resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.asarray(resized, np.float64)
    details = gaussian_filter(pixels, _FINE) - gaussian_filter(pixels, _COARSE)
    contrast = gaussian_filter(details * details, _AROUND) + _NOISE**2
    return np.asarray(np.clip(details / np.sqrt(contrast), -1, 1))


def _correlation(whole: NDArray[np.float64], part: NDArray[np.float64]) -> float:
    """Return the highest correlation of `part` with `whole` over all positions."""
    from scipy.signal import fftconvolve  # one second of every process's start

    part = part - part.mean()
    ones = np.ones_like(part)
    products = fftconvolve(whole, part[::-1, ::-1], mode="valid")
    sums = fftconvolve(whole, ones, mode="valid")
    squares = fftconvolve(whole * whole, ones, mode="valid") - sums * sums / part.size
    energy = np.maximum(squares, 0) * (part * part).sum()
    # Below a thousandth of the contrast, values are rounding errors, not detail.
    floor = (1e-6 * part.size) ** 2
    return float(np.max(np.where(energy > floor, products / np.sqrt(np.maximum(energy, floor)), 0.0)))
