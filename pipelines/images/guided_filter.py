"""Model planes as linear in a photo's three colours around each pixel: the guided filter of He, Sun and Tang (2013).

The models are found at a small size, enlarged, and applied to the colours at full size (the fast guided filter, He and
Sun, 2015): what follows the photo at the small size then follows its edges at full size. Imports no torch.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float64]


def colour_models(guide: Planes, values: Planes, weights: Planes, radius: int, ridge: float) -> Planes:
    """Return slopes for the guide's colours, then the offset, of linear models of `values`: (h, w, C, 4) float64.

    Least squares with a ridge over windows of 2 radius + 1 pixels a side, averaged over the windows that a pixel is in
    (equations 19 to 21). Windows end at the image's border.

    guide (h, w, 3); values (h, w, C); weights (h, w) > 0: how much each pixel counts. All are float64: variances are
    differences of large sums. ridge: the variance of a colour, in the guide's units squared, below which it explains
    little.
    """
    # Numba takes a third of a second to import, and not every process that imports this module fits models.
    from pipelines.images.guided_kernels import divided, moments, solved

    height, width, channels = values.shape
    sums = _summed(moments(guide, values, weights), radius)
    models = _summed(solved(sums, channels, ridge), radius)
    return divided(models).reshape(height, width, channels, 4)


def _summed(planes: Planes, radius: int) -> Planes:
    """Return sums of (h, w, P) over the window around each pixel; what lies outside counts nothing."""
    window = (2 * radius + 1, 2 * radius + 1)
    return cv2.boxFilter(planes, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
