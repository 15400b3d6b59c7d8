"""Model planes as linear in a photo's three colours around each pixel: the guided filter of He, Sun and Tang (2013).

The models are found at a small size, enlarged, and applied to the colours at full size (the fast guided filter, He and
Sun, 2015): what follows the photo at the small size then follows its edges at full size. Imports no torch.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float64]


def colour_models(
    guide: Planes, values: Planes, weights: Planes, radius: int, ridge: float, wanted: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return slopes for the guide's colours, then the offset, of linear models of `values`: (h, w, C, 4) float32.

    Least squares with a ridge over windows of 2 radius + 1 pixels a side, averaged over the windows that a pixel is in
    (equations 19 to 21). Windows end at the image's border.

    guide (h, w, 3); values (h, w, C); weights (h, w) > 0: how much each pixel counts. All are float64: variances are
    differences of large sums. ridge: the variance of a colour, in the guide's units squared, below which it explains
    little. wanted: bool (h, w), pixels whose models are needed; those of others are 0.
    """
    # Numba takes a third of a second to import, and not every process that imports this module fits models.
    from pipelines.images.guided_kernels import averaged, windows

    height, width, channels = values.shape
    around = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    near = cv2.dilate(wanted.view(np.uint8), around)
    inside = cv2.dilate(near, around).view(bool)
    models = windows(guide, values, weights, near.view(bool), inside, radius, ridge)
    return averaged(models, wanted, radius).reshape(height, width, channels, 4)
