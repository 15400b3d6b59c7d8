"""The guided filter's loops over pixels, compiled; see `guided_filter`. Colours, values and weights are float64.

As array operations the same reads and writes dozens of planes and takes many times as long.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.images.compiled import compiled

Planes = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: What a pixel adds to a window's least squares: its weight, its weighted colours, their products (the upper half of a
#: symmetric matrix, row by row); then for each value its weighted self and its products with the colours.
_COLOURS, _SQUARES, _VALUES, _PER_VALUE = 1, 4, 10, 4


@compiled
def windows(
    guide: Planes, values: Planes, weights: Planes, wanted: Flags, inside: Flags, radius: int, ridge: float
) -> Planes:
    """Return the least squares of the windows around `wanted` pixels, other pixels undefined: (h, w, 4 C + 1).

    For each of the C values three slopes and an offset, times the window's weight; then that weight.
    inside: the pixels that are in any of these windows.
    """
    height, width, channels = values.shape
    count = _VALUES + _PER_VALUE * channels
    columns, sums = np.zeros((width, count)), np.empty(count)
    result = np.empty((height, width, 4 * channels + 1))
    for y in range(min(radius, height)):
        _add_row(guide[y], values[y], weights[y], inside[y], 1.0, columns)
    for y in range(height):
        if y + radius < height:
            come = y + radius
            _add_row(guide[come], values[come], weights[come], inside[come], 1.0, columns)
        if y > radius:
            gone = y - radius - 1
            _add_row(guide[gone], values[gone], weights[gone], inside[gone], -1.0, columns)
        for x in range(width):
            if wanted[y, x]:
                sums[:] = 0
                for column in range(max(0, x - radius), min(width, x + radius + 1)):
                    for plane in range(count):
                        sums[plane] += columns[column, plane]
                _solve(sums, channels, ridge, result[y, x])
    return result


@compiled
def averaged(models: Planes, wanted: Flags, radius: int) -> NDArray[np.float32]:
    """Return the mean of the windows that each `wanted` pixel is in, by their weights; 0 elsewhere: (h, w, 4 C)."""
    height, width, count = models.shape
    result, sums = np.zeros((height, width, count - 1), np.float32), np.empty(count)
    for y in range(height):
        for x in range(width):
            if not wanted[y, x]:
                continue
            sums[:] = 0
            for row in range(max(0, y - radius), min(height, y + radius + 1)):
                for column in range(max(0, x - radius), min(width, x + radius + 1)):
                    for plane in range(count):
                        sums[plane] += models[row, column, plane]
            for plane in range(count - 1):
                result[y, x, plane] = sums[plane] / sums[count - 1]
    return result


@compiled
def _add_row(
    guide: Planes, values: Planes, weights: Planes, inside: Flags, sign: float, columns: Planes
) -> None:
    """Add to `columns` (w, P) what a row's `inside` pixels add to a window, times `sign`."""
    for x in range(values.shape[0]):
        if not inside[x]:
            continue
        at, weight, colour = columns[x], sign * weights[x], guide[x]
        at[0] += weight
        square = _SQUARES
        for one in range(3):
            at[_COLOURS + one] += weight * colour[one]
            for other in range(one, 3):
                at[square] += weight * colour[one] * colour[other]
                square += 1
        for channel in range(values.shape[1]):
            start, value = _VALUES + _PER_VALUE * channel, weight * values[x, channel]
            at[start] += value
            for one in range(3):
                at[start + 1 + one] += value * colour[one]


@compiled
def _solve(sums: Planes, channels: int, ridge: float, out: Planes) -> None:
    """Write a window's least squares, of its sums (P,), into `out` (4 C + 1,)."""
    total = sums[0]
    red, green, blue = sums[1] / total, sums[2] / total, sums[3] / total
    a = sums[4] / total - red * red + ridge
    b = sums[5] / total - red * green
    c = sums[6] / total - red * blue
    d = sums[7] / total - green * green + ridge
    e = sums[8] / total - green * blue
    f = sums[9] / total - blue * blue + ridge
    aa, bb, cc = d * f - e * e, c * e - b * f, b * e - c * d
    dd, ee, ff = a * f - c * c, b * c - a * e, a * d - b * b
    scale = total / (a * aa + b * bb + c * cc)
    for channel in range(channels):
        start = _VALUES + _PER_VALUE * channel
        value = sums[start] / total
        x1 = (sums[start + 1] / total - value * red) * scale
        x2 = (sums[start + 2] / total - value * green) * scale
        x3 = (sums[start + 3] / total - value * blue) * scale
        one, two, three = (
            aa * x1 + bb * x2 + cc * x3,
            bb * x1 + dd * x2 + ee * x3,
            cc * x1 + ee * x2 + ff * x3,
        )
        out[4 * channel], out[4 * channel + 1], out[4 * channel + 2] = one, two, three
        out[4 * channel + 3] = total * value - one * red - two * green - three * blue
    out[4 * channels] = total
