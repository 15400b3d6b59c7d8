"""Turn a coarse foreground into a matte at the photo's size, without debris and pinholes, along the photo's edges."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipelines.images.guided_filter import colour_models

Map = NDArray[np.float32]

_ROUND = np.ones((3, 3), bool)


def tidy(alpha: Map, piece_share: float, hole_share: float) -> Map:
    """Return `alpha` (h, w) in [0, 1] without debris and pinholes.

    piece_share: pieces (alpha > 0.5) below this share of the largest one's area are removed. hole_share: holes below
    this share of it are filled; larger ones are real, such as the one between a bag and its handle.
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
    """Return `alpha` (h, w) at the size of `image` (H, W, 3), its edges moved to the photo's by the fast guided filter.

    small: the photo at the size of `alpha`. radius: of the windows, in pixels of `small`. eps: variance of colour,
    in squared units of RGB in [0, 1], below which a window counts as flat.
    """
    everywhere = np.ones(alpha.shape, bool)
    values = alpha[..., None].astype(np.float64)
    models = colour_models(small / 255, values, everywhere.astype(np.float64), radius, eps, everywhere)
    planes = np.moveaxis(models[:, :, 0], 2, 0)
    *slopes, full = (_enlarge(plane, image.shape[:2]) for plane in planes)
    for channel, slope in enumerate(slopes):
        full += slope * (image[..., channel] / np.float32(255))
    return full


def _enlarge(values: Map, size: tuple[int, ...]) -> Map:
    height, width = size
    return np.array(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
