"""The guided filter's loops over pixels, compiled; see `guided_filter`. All arrays are float64.

As array operations the same reads and writes dozens of planes and takes four times as long.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.images.compiled import compiled

Planes = NDArray[np.float64]

#: Planes of `moments`: the weight, the weighted colours, their products (the upper half of a symmetric matrix, row by
#: row); then for each value its weighted self and its products with the colours.
_COLOURS, _SQUARES, _VALUES, _PER_VALUE = 1, 4, 10, 4


@compiled
def moments(guide: Planes, values: Planes, weights: Planes) -> Planes:
    """Return what each pixel adds to a window's least squares: (h, w, 10 + 4 C)."""
    height, width, channels = values.shape
    result = np.empty((height, width, _VALUES + _PER_VALUE * channels))
    for y in range(height):
        for x in range(width):
            at, weight, colour = result[y, x], weights[y, x], guide[y, x]
            at[0] = weight
            square = _SQUARES
            for one in range(3):
                at[_COLOURS + one] = weight * colour[one]
                for other in range(one, 3):
                    at[square] = weight * colour[one] * colour[other]
                    square += 1
            for channel in range(channels):
                start = _VALUES + _PER_VALUE * channel
                at[start] = weight * values[y, x, channel]
                for one in range(3):
                    at[start + 1 + one] = at[start] * colour[one]
    return result


@compiled
def solved(sums: Planes, channels: int, ridge: float) -> Planes:
    """Return each window's models times its weight, then its weight: (h, w, 4 C + 1). sums: of `moments`.

    The systems are solved by Cramer's rule.
    """
    height, width = sums.shape[:2]
    result = np.empty((height, width, 4 * channels + 1))
    for y in range(height):
        for x in range(width):
            at, out = sums[y, x], result[y, x]
            total = at[0]
            red, green, blue = at[1] / total, at[2] / total, at[3] / total
            a = at[4] / total - red * red + ridge
            b = at[5] / total - red * green
            c = at[6] / total - red * blue
            d = at[7] / total - green * green + ridge
            e = at[8] / total - green * blue
            f = at[9] / total - blue * blue + ridge
            aa, bb, cc = d * f - e * e, c * e - b * f, b * e - c * d
            dd, ee, ff = a * f - c * c, b * c - a * e, a * d - b * b
            scale = total / (a * aa + b * bb + c * cc)
            for channel in range(channels):
                start = _VALUES + _PER_VALUE * channel
                value = at[start] / total
                x1 = (at[start + 1] / total - value * red) * scale
                x2 = (at[start + 2] / total - value * green) * scale
                x3 = (at[start + 3] / total - value * blue) * scale
                one, two, three = (
                    aa * x1 + bb * x2 + cc * x3,
                    bb * x1 + dd * x2 + ee * x3,
                    cc * x1 + ee * x2 + ff * x3,
                )
                out[4 * channel], out[4 * channel + 1], out[4 * channel + 2] = one, two, three
                out[4 * channel + 3] = total * value - one * red - two * green - three * blue
            out[4 * channels] = total
    return result


@compiled
def divided(planes: Planes) -> Planes:
    """Return all planes but the last, divided by it: (h, w, P) to (h, w, P - 1)."""
    height, width, count = planes.shape
    result = np.empty((height, width, count - 1))
    for y in range(height):
        for x in range(width):
            inverse = 1 / planes[y, x, count - 1]
            for plane in range(count - 1):
                result[y, x, plane] = planes[y, x, plane] * inverse
    return result
