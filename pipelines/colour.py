"""Colours as people see differences between them."""

import numpy as np
from numpy.typing import NDArray

_RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    np.float32,
)
_WHITE = _RGB_TO_XYZ.sum(axis=1)


def rgb_to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIE L*a*b* (D65, 2 degrees) float32 (H, W, 3) of sRGB uint8 (H, W, 3): IEC 61966-2-1, then CIE 15."""
    rgb = image.astype(np.float32) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _RGB_TO_XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lightness = 116 * f[..., 1] - 16
    return np.stack(
        [lightness, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    ).astype(np.float32)
