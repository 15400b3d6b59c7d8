"""Paint an edit over an upload: at each pixel the edit's models, interpolated bilinearly, of the pixel's own colour.

Compiled: the same in array operations moves a gigabyte through memory for a photo of three megapixels, and takes five
times as long. Each pixel is computed by itself, so nothing is held beside the upload and its result.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pipelines.images.compiled import compiled
from pipelines.inference.edits.edges import ALIKE, BACKGROUND, BELIEF, DISAGREED, EDGE_PLANES, PAINT, PRODUCT
from pipelines.inference.edits.guided import CONTENT, FLATTENED, HIGH, LOW, MATTE

# float32, as all that they meet: a plain number would make the kernel compute in float64.
_FLATTENED, _DISAGREED, _ALIKE = np.float32(FLATTENED), np.float32(DISAGREED), np.float32(ALIKE)


def paint(
    image: NDArray[np.uint8], models: NDArray[np.float32], edges: NDArray[np.float32] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return `image` uint8 (H,W,3) painted, and its matte uint8 (H,W).

    models: float32 (h,w,PLANES), of `guided.fitted`. edges: float32 (h,w,EDGE_PLANES), of `edges.soft_edges`; None
    where soft edges stay as they are painted.
    """
    height, width = image.shape[:2]
    result, matte = image.copy(), np.zeros((height, width), np.uint8)
    has_edges = edges is not None
    planes = edges if edges is not None else np.zeros((*models.shape[:2], EDGE_PLANES), np.float32)
    rows, columns = (_neighbours(*axis) for axis in zip((height, width), models.shape[:2], strict=True))
    _paint(np.ascontiguousarray(image), models, planes, has_edges, rows, columns, result, matte)
    return result, matte


def _neighbours(size: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest two of `count` pixels for each of `size` along the same length, and the second's share."""
    position = ((np.arange(size) + 0.5) * count / size - 0.5).clip(0, count - 1)
    first = np.floor(position).astype(np.int64)
    return first, np.minimum(first + 1, count - 1), (position - first).astype(np.float32)


@compiled
def _paint(image, models, edges, has_edges, rows, columns, result, matte):  # type: ignore[no-untyped-def]
    line, edge_line = np.empty(models.shape[1:], np.float32), np.empty(edges.shape[1:], np.float32)
    covered = np.empty(models.shape[1], np.bool_)
    for y in range(image.shape[0]):
        near = rows[0][y], rows[1][y], rows[2][y]
        _between(models, near, line)
        if line[:, HIGH].any():
            if has_edges:
                _between(edges, near, edge_line)
            _find_covered(line, covered)
            _paint_row(image[y], line, covered, edge_line, has_edges, columns, result[y], matte[y])


@compiled
def _find_covered(line, covered):  # type: ignore[no-untyped-def]
    """Write into `covered` (w,) where only the content counts, and its models ignore the pixel's colours."""
    for x in range(line.shape[0]):
        covered[x] = line[x, LOW] == 1
        for plane in range(CONTENT, MATTE):
            covered[x] &= line[x, plane] == 0 or plane % 4 == 3


@compiled
def _paint_row(image, line, covered, edge_line, has_edges, columns, result, matte):  # type: ignore[no-untyped-def]
    one, half, levels = np.float32(1), np.float32(127.5), np.float32(255)
    pixel, content = np.empty(3, np.float32), np.empty(3, np.float32)
    for x in range(image.shape[0]):
        near = columns[0][x], columns[1][x], columns[2][x]
        if covered[near[0]] and covered[near[1]]:
            matte[x] = 255
            for channel in range(3):
                value = _at(line, CONTENT + 4 * channel + 3, near)
                result[x, channel] = np.uint8(min(max(np.rint((value + one) * half), np.float32(0)), levels))
            continue
        high = _at(line, HIGH, near)
        if high == 0:
            continue
        for channel in range(3):
            pixel[channel] = np.float32(image[x, channel]) / half - one
        level = np.rint(_matte(line, near, pixel, high) * levels)
        if level == 0:
            continue
        matte[x] = np.uint8(level)
        share = level / levels
        _content(line, near, pixel, content)
        if has_edges and level < levels:
            _unmix(edge_line, near, share, pixel, content)
        for channel in range(3):
            value = pixel[channel] + (content[channel] - pixel[channel]) * share
            result[x, channel] = np.uint8(min(max(np.rint((value + one) * half), np.float32(0)), levels))


@compiled
def _between(planes, near, line):  # type: ignore[no-untyped-def]
    """Write the planes at one row of the upload into `line` (w,P)."""
    top, bottom, share = near
    for x in range(planes.shape[1]):
        for plane in range(planes.shape[2]):
            above = planes[top, x, plane]
            line[x, plane] = above + (planes[bottom, x, plane] - above) * share


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
    share = ((value - low) / span - _FLATTENED) / (np.float32(1) - np.float32(2) * _FLATTENED)
    return low + min(max(share, np.float32(0)), np.float32(1)) * span


@compiled
def _content(line, near, pixel, content):  # type: ignore[no-untyped-def]
    """Write the content at one pixel, within -1..1."""
    for channel in range(3):
        value = _applied(line, CONTENT + 4 * channel, near, pixel)
        content[channel] = min(max(value, np.float32(-1)), np.float32(1))


@compiled
def _unmix(line, near, painted, pixel, content):  # type: ignore[no-untyped-def]
    """Replace the pixel's colour by the product's own, and the content by the paint nearby, as far as both are
    believed; see `edges`.
    """
    belief = _at(line, BELIEF, near)
    if belief <= 0:
        return
    opacity = np.float32(1) - painted
    disagreed, apart = np.float32(0), _ALIKE
    for channel in range(3):
        background = _at(line, BACKGROUND + channel, near)
        distance = _at(line, PRODUCT + channel, near) - background
        disagreed += (pixel[channel] - background - opacity * distance) * distance
        apart += distance * distance
    belief *= np.float32(math.exp(-((disagreed / apart / _DISAGREED) ** 2)))
    for channel in range(3):
        product, background = _at(line, PRODUCT + channel, near), _at(line, BACKGROUND + channel, near)
        own = product + opacity * (pixel[channel] - opacity * product - painted * background)
        own = min(max(own, np.float32(-1)), np.float32(1))
        pixel[channel] += belief * (own - pixel[channel])
        content[channel] += belief * (_at(line, PAINT + channel, near) - content[channel])
