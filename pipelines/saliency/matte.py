"""From a coarse foreground to a matte at the photo's size: debris and pinholes go, edges follow the photo's."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Map = NDArray[np.float32]

_ROUND = np.ones((3, 3), bool)


def tidy(alpha: Map, piece_share: float, hole_share: float) -> Map:
    """`alpha` (h, w) in [0, 1] without debris and pinholes.

    piece_share: pieces (alpha > 0.5) below this share of the largest one's area go. hole_share: holes below this share
    of it are filled; larger ones are real, between a bag and its handle.
    """
    product = alpha > 0.5
    labelled, count = ndimage.label(product, structure=_ROUND)
    if count == 0:
        return alpha
    areas = np.bincount(labelled.ravel(), minlength=count + 1)
    areas[0] = 0
    kept = (areas >= piece_share * areas.max())[labelled] & product
    near = ndimage.binary_dilation(kept, _ROUND, iterations=2)
    alpha = np.where(near | ~product, alpha, 0) * (near | (alpha < 0.5))
    holes, count = ndimage.label(ndimage.binary_fill_holes(kept) & ~kept)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    small = sizes < hole_share * areas.max()
    small[0] = False
    return np.where(small[holes], 1, alpha).astype(np.float32)


def guided_matte(
    image: NDArray[np.uint8], small: NDArray[np.uint8], alpha: Map, radius: int, eps: float
) -> Map:
    """`alpha` (h, w) at the size of `image` (H, W, 3), its edges moved to the photo's: the fast guided filter.

    small: the photo at the size of `alpha`. radius: of the windows, pixels of `small`. eps: variance of colour, in
    squared units of RGB in [0, 1], below which a window counts as flat. He, Sun, Tang (2013), equations 19 and 20;
    coefficients at the small size and applied at full size: He, Sun (2015).
    """
    guide: Map = small.astype(np.float32) / np.float32(255)
    size = 2 * radius + 1

    def mean(values: NDArray[np.floating]) -> Map:
        return ndimage.uniform_filter(values, (size, size, 1)[: values.ndim], mode="nearest")

    centre, level = mean(guide), mean(alpha)
    together = mean(guide * alpha[..., None]) - centre * level[..., None]
    i, j = np.triu_indices(3)
    spread = mean(guide[..., i] * guide[..., j]) - centre[..., i] * centre[..., j]
    slope = _solve(spread, together, eps)
    offset = level - (slope * centre).sum(axis=-1)
    slope, offset = mean(slope), mean(offset)
    full = _enlarge(offset, image.shape[:2])
    for channel in range(3):
        full += _enlarge(slope[..., channel], image.shape[:2]) * (image[..., channel] / np.float32(255))
    return full


def _solve(spread: Map, right: Map, eps: float) -> Map:
    """(S + eps 1)^-1 right per pixel; S symmetric as (…, 6): xx, xy, xz, yy, yz, zz. By cofactors: fast for 3 x 3."""
    xx, xy, xz, yy, yz, zz = np.moveaxis(spread.astype(np.float64), -1, 0)
    xx, yy, zz = (np.maximum(value, 0) + eps for value in (xx, yy, zz))
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    d, e, f = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    determinant = np.maximum(xx * a + xy * b + xz * c, 0.1 * eps**3)
    r, s, t = np.moveaxis(right, -1, 0)
    solved = np.stack([a * r + b * s + c * t, b * r + d * s + e * t, c * r + e * s + f * t], axis=-1)
    return (solved / determinant[..., None]).astype(np.float32)


def _enlarge(values: Map, size: tuple[int, ...]) -> Map:
    height, width = size
    return np.array(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
