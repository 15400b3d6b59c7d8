"""Model planes as linear in a photo's three colours around each pixel: the guided filter of He, Sun and Tang (2013).

The models are found at a small size, enlarged, and applied to the colours at full size (the fast guided filter, He and
Sun, 2015): what follows the photo at the small size then follows its edges at full size. Imports no torch.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float64]


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
    square = _summed(weights * guide[:, None] * guide, radius) / total
    product = _summed(weights * values[:, None] * guide, radius) / total
    variance = square - mean[:, None] * mean + ridge * np.eye(3)[..., None, None]
    slopes = _solved(variance, product - mean_values[:, None] * mean)
    offsets = mean_values - (slopes * mean).sum(axis=1)
    models = np.concatenate([slopes, offsets[:, None]], axis=1)
    return _summed(total * models, radius) / _summed(total, radius)


def _solved(matrix: Planes, right: Planes) -> Planes:
    """Return x of `matrix` x = `right` at every pixel: (3, 3, h, w), symmetric, and (C, 3, h, w).

    By Cramer's rule: NumPy's solver takes four times as long for this many small systems.
    """
    crosses = [np.cross(matrix[(row + 1) % 3], matrix[(row + 2) % 3], axis=0) for row in range(3)]
    inverse = np.stack(crosses) / (matrix[0] * crosses[0]).sum(axis=0)
    return (inverse * right[:, None]).sum(axis=2)


def _summed(planes: Planes, radius: int) -> Planes:
    """Return sums of (..., h, w) over the window around each pixel; what lies outside counts nothing."""
    sums = np.empty_like(planes)
    for index in np.ndindex(planes.shape[:-2]):
        window = (2 * radius + 1, 2 * radius + 1)
        sums[index] = cv2.boxFilter(
            planes[index], -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT
        )
    return sums
