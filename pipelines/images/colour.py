"""Compares colours in CIE L*a*b*, where distances are about as large as people perceive them."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    np.float32,
)
_WHITE = _RGB_TO_XYZ.sum(axis=1)


def rgb_to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert sRGB uint8 (H, W, 3) to CIE L*a*b* (D65, 2 degrees) float32 (H, W, 3): IEC 61966-2-1, then CIE 15."""
    rgb = image.astype(np.float32) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _RGB_TO_XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lightness = 116 * f[..., 1] - 16
    return np.stack(
        [lightness, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    ).astype(np.float32)


#: Side of the cubes in Lab within which colours count as equal when both sides of a mask are compared.
COLOUR_BIN = 12.0


def separation(lab: NDArray[np.float32], product: NDArray[np.bool_]) -> float:
    """Return how well coarse colour alone separates the two sides of a mask.

    1 if no colour is on both sides, 0.5 if both sides have the same colours. With h and k the shares of a colour in
    product and background, it is half the sum of (h^2 + k^2) / (h + k). A mask that cuts the product, or includes some
    background, has the same colours on both sides.
    """
    if product.all():
        return 1.0  # no background to compare with; area and border contact judge such a mask
    bins = ((lab + np.array([0, 128, 128], np.float32)) / COLOUR_BIN).astype(np.intp)
    _, colour = np.unique((bins[..., 0] * 64 + bins[..., 1]) * 64 + bins[..., 2], return_inverse=True)
    colour = colour.reshape(product.shape)
    inside, outside = (
        np.bincount(colour[side], minlength=colour.max() + 1) / side.sum() for side in (product, ~product)
    )
    return float(0.5 * ((inside**2 + outside**2) / (inside + outside)).sum())


def local_mean(
    lab: NDArray[np.float32], where: NDArray[np.bool_], side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean colour (H, W, 3) of the pixels of `where` in a square of `side`, and their share of it (H, W)."""
    weight = ndimage.uniform_filter(where.astype(np.float32), side, mode="constant")
    weight[weight < 0.5 / side**2] = 0  # remove rounding errors of the running sums
    total = ndimage.uniform_filter(lab * where[..., None], (side, side, 1), mode="constant")
    return total / np.maximum(weight, 1e-6)[..., None], weight
