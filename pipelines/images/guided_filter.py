"""Model planes as linear in a photo's three colours around each pixel: the guided filter of He, Sun and Tang (2013).

The models are found at a small size, enlarged, and applied to the colours at full size (the fast guided filter, He and
Sun, 2015): what follows the photo at the small size then follows its edges at full size. Imports no torch.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float64]

#: The upper half of a symmetric matrix of three colours, row by row.
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def colour_models(guide: Planes, values: Planes, weights: Planes, radius: int, ridge: float) -> Planes:
    """Return slopes for the guide's colours, then the offset, of linear models of `values`: (C, 4, h, w) float64.

    Least squares with a ridge over windows of 2 radius + 1 pixels a side, averaged over the windows that a pixel is in
    (equations 19 to 21). Windows end at the image's border.

    guide (3, h, w); values (C, h, w); weights (1, h, w) > 0: how much each pixel counts. All are float64: variances are
    differences of large sums. ridge: the variance of a colour, in the guide's units squared, below which it explains
    little.
    """
    total = _summed(weights, radius)
    mean, mean_values = (_summed(weights * part, radius) / total for part in (guide, values))
    weighted = weights * guide
    square = _summed(np.stack([weighted[one] * guide[other] for one, other in _PAIRS]), radius) / total
    variance = [
        part - mean[one] * mean[other] + (ridge if one == other else 0)
        for part, (one, other) in zip(square, _PAIRS, strict=True)
    ]
    models = np.empty((len(values), 4, *guide.shape[1:]))
    for model, value, mean_value in zip(models, values, mean_values, strict=True):
        model[:3] = _solved(variance, _summed(weighted * value, radius) / total - mean_value * mean)
        model[3] = mean_value - (model[:3] * mean).sum(axis=0)
    return _summed(total * models, radius) / _summed(total, radius)


def _solved(matrix: Sequence[Planes], right: Planes) -> Planes:
    """Return x of `matrix` x = `right` (3, h, w) at every pixel. matrix: symmetric, its elements by _PAIRS.

    By Cramer's rule: NumPy's solver takes four times as long for this many small systems.
    """
    a, b, c, d, e, f = matrix
    inverse = d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b
    x, y, z = right / (a * inverse[0] + b * inverse[1] + c * inverse[2])
    rows = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
    return np.stack([inverse[one] * x + inverse[two] * y + inverse[three] * z for one, two, three in rows])


def _summed(planes: Planes, radius: int) -> Planes:
    """Return sums of (..., h, w) over the window around each pixel; what lies outside counts nothing."""
    sums = np.empty_like(planes)
    for index in np.ndindex(planes.shape[:-2]):
        window = (2 * radius + 1, 2 * radius + 1)
        sums[index] = cv2.boxFilter(
            planes[index], -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT
        )
    return sums
