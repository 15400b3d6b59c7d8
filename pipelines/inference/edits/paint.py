"""Paint an edit over an upload: at each pixel the edit's models, interpolated bilinearly, of the pixel's own colour.

Compiled: the same in array operations moves a gigabyte through memory for a photo of three megapixels, and takes at
least five times as long. Nothing is held beside the upload and its result. Where an edit paints nothing or one colour,
pixels are not looked at one by one.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pipelines.images.compiled import compiled
from pipelines.inference.edits.edges import ALIKE, BACKGROUND, BELIEF, DISAGREED, EDGE_PLANES, PAINT, PRODUCT
from pipelines.inference.edits.guided import CONTENT, FLATTENED, HIGH, LOW, MATTE

#: What lies between four neighbouring pixels of the edit: nothing is painted; all is, in one colour, whatever the
#: upload shows; or each pixel must be computed.
_NOTHING, _PLAIN, _MIXED = 0, 1, 2

# float32, as all that they meet: a plain number would make the kernel compute in float64.
_FLATTENED, _DISAGREED, _ALIKE = np.float32(FLATTENED), np.float32(DISAGREED), np.float32(ALIKE)
_ZERO, _ONE, _HALF, _LEVELS = np.float32(0), np.float32(1), np.float32(127.5), np.float32(255)


def paint(
    image: NDArray[np.uint8], models: NDArray[np.float32], edges: NDArray[np.float32] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return `image` uint8 (H,W,3) painted, and its matte uint8 (H,W).

    models: float32 (h,w,PLANES), of `guided.fitted`. edges: float32 (h,w,EDGE_PLANES), of `edges.soft_edges`; None
    where soft edges stay as they are painted.
    """
    result, matte = image.copy(), np.zeros(image.shape[:2], np.uint8)
    if edges is None:
        edges = np.zeros((*models.shape[:2], EDGE_PLANES), np.float32)
    rows, columns = (_neighbours(*axis) for axis in zip(image.shape[:2], models.shape[:2], strict=True))
    # The upload's first column that does not lie left of each of the edit's.
    first = np.searchsorted(columns[0], np.arange(models.shape[1] + 1))
    _paint(np.ascontiguousarray(image), models, edges, rows, columns[1], first, result, matte)
    return result, matte


def _neighbours(size: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return, for each of `size` pixels, the one of `count` pixels along the same length that lies before it, and how
    far it is on its way from that one to the next: 0 to 1. Pixels beyond the first or the last count as at it.
    """
    position = ((np.arange(size) + 0.5) * count / size - 0.5).clip(0, count - 1)
    before = np.floor(position).astype(np.int64)
    return before, (position - before).astype(np.float32)


@compiled
def _paint(image, models, edges, rows, shares, first, result, matte):  # type: ignore[no-untyped-def]
    line, edge_line = np.empty(models.shape[1:], np.float32), np.empty(edges.shape[1:], np.float32)
    cells = _cells(models)
    for y in range(len(image)):
        top, share = rows[0][y], rows[1][y]
        kinds = cells[top]
        _between(models, top, share, kinds, line)
        _between(edges, top, share, kinds, edge_line)
        start = 0
        while start < len(kinds):
            end = start + 1
            while end < len(kinds) and kinds[end] == kinds[start]:
                end += 1
            if kinds[start] == _PLAIN:  # and of one colour, as neighbouring cells share two pixels
                matte[y, first[start] : first[end]] = 255
                for channel in range(3):
                    level = _level(models[top, start, CONTENT + 4 * channel + 3])
                    result[y, first[start] : first[end], channel] = level
            elif kinds[start] == _MIXED:
                _mix(image[y], line, edge_line, start, end, shares, first, result[y], matte[y])
            start = end


@compiled
def _cells(models):  # type: ignore[no-untyped-def]
    """Return the kind of each square of an edit's pixel and its neighbours to the right and below: uint8 (h,w)."""
    height, width = models.shape[:2]
    cells = np.full((height, width), _NOTHING, np.uint8)
    for y in range(height):
        for x in range(width):
            below, beside = min(y + 1, height - 1), min(x + 1, width - 1)
            above, under = models[y], models[below]
            if above[x, HIGH] or above[beside, HIGH] or under[x, HIGH] or under[beside, HIGH]:
                is_plain = True
                for line in (above, under):
                    for at in (x, beside):
                        is_plain &= _is_covered(line, at)
                        for plane in range(CONTENT + 3, MATTE, 4):
                            is_plain &= line[at, plane] == above[x, plane]
                cells[y, x] = _PLAIN if is_plain else _MIXED
    return cells


@compiled
def _is_covered(line, at):  # type: ignore[no-untyped-def]
    """Return whether only the content counts at one of the edit's pixels, and ignores the upload's colours."""
    if line[at, LOW] < 1:
        return False
    slopes = _ZERO
    for plane in range(CONTENT, MATTE, 4):
        slopes += abs(line[at, plane]) + abs(line[at, plane + 1]) + abs(line[at, plane + 2])
    return slopes == 0


@compiled
def _between(planes, top, share, kinds, line):  # type: ignore[no-untyped-def]
    """Write the planes at one row of the upload into `line` (w,P), where a cell beside a pixel needs them."""
    bottom = min(top + 1, len(planes) - 1)
    for x in range(len(kinds)):
        if kinds[x] == _MIXED or (x > 0 and kinds[x - 1] == _MIXED):
            for plane in range(planes.shape[2]):
                above = planes[top, x, plane]
                line[x, plane] = above + (planes[bottom, x, plane] - above) * share


@compiled
def _mix(image, line, edge_line, start, end, shares, first, result, matte):  # type: ignore[no-untyped-def]
    """Paint the pixels of one row of the cells from `start` to `end`."""
    pixel, content = np.empty(3, np.float32), np.empty(3, np.float32)
    for cell in range(start, end):
        beside = min(cell + 1, len(line) - 1)
        covered = _is_covered(line, cell) and _is_covered(line, beside)
        for x in range(first[cell], first[cell + 1]):
            near = cell, beside, shares[x]
            if covered:
                matte[x] = 255
                for channel in range(3):
                    result[x, channel] = _level(_at(line, CONTENT + 4 * channel + 3, near))
                continue
            high = _at(line, HIGH, near)
            if high == 0:
                continue
            for channel in range(3):
                pixel[channel] = np.float32(image[x, channel]) / _HALF - _ONE
            level = np.rint(_matte(line, near, pixel, high) * _LEVELS)
            if level == 0:
                continue
            matte[x] = np.uint8(level)
            share = level / _LEVELS
            _content(line, near, pixel, content)
            if level < _LEVELS:
                _unmix(edge_line, near, share, pixel, content)
            for channel in range(3):
                result[x, channel] = _level(pixel[channel] + (content[channel] - pixel[channel]) * share)


@compiled
def _level(value):  # type: ignore[no-untyped-def]
    """Return a value on -1..1 as a level, uint8; what is beyond is cut."""
    return np.uint8(min(max(np.rint((value + _ONE) * _HALF), _ZERO), _LEVELS))


@compiled
def _at(line, plane, near):  # type: ignore[no-untyped-def]
    """Return a plane at one pixel of the row."""
    left, right, share = near
    value = line[left, plane]
    return value + (line[right, plane] - value) * share


@compiled
def _applied(line, plane, near, pixel):  # type: ignore[no-untyped-def]
    """Return a model, whose planes begin at `plane`, of the pixel's colours."""
    value = _at(line, plane + 3, near)
    for colour in range(3):
        value += _at(line, plane + colour, near) * pixel[colour]
    return value


@compiled
def _matte(line, near, pixel, high):  # type: ignore[no-untyped-def]
    """Return the matte, within the edit's own values nearby: texture leaves no trace in a constant matte."""
    low = _at(line, LOW, near)
    span = high - low
    if span <= np.float32(1e-6):
        return low
    value = _applied(line, MATTE, near, pixel)
    share = ((value - low) / span - _FLATTENED) / (_ONE - np.float32(2) * _FLATTENED)
    return low + min(max(share, _ZERO), _ONE) * span


@compiled
def _content(line, near, pixel, content):  # type: ignore[no-untyped-def]
    """Write the content at one pixel, within -1..1."""
    for channel in range(3):
        value = _applied(line, CONTENT + 4 * channel, near, pixel)
        content[channel] = min(max(value, -_ONE), _ONE)


@compiled
def _unmix(line, near, painted, pixel, content):  # type: ignore[no-untyped-def]
    """Replace the pixel's colour by the product's own, and the content by the paint nearby, as far as both are
    believed; see `edges`.
    """
    belief = _at(line, BELIEF, near)
    if belief <= 0:
        return
    opacity = _ONE - painted
    disagreed, apart = _ZERO, _ALIKE
    for channel in range(3):
        background = _at(line, BACKGROUND + channel, near)
        distance = _at(line, PRODUCT + channel, near) - background
        disagreed += (pixel[channel] - background - opacity * distance) * distance
        apart += distance * distance
    belief *= np.float32(math.exp(-((disagreed / apart / _DISAGREED) ** 2)))
    for channel in range(3):
        product, background = _at(line, PRODUCT + channel, near), _at(line, BACKGROUND + channel, near)
        own = product + opacity * (pixel[channel] - opacity * product - painted * background)
        own = min(max(own, -_ONE), _ONE)
        pixel[channel] += belief * (own - pixel[channel])
        content[channel] += belief * (_at(line, PAINT + channel, near) - content[channel])
