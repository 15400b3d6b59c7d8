"""Separates products from backgrounds and combines them: x = a F + (1 - a) B, for an opacity a of the product.

In a soft edge a photo shows a mixture of the product's colour F and the background's B. Copied unchanged onto another
background, it brings a rim of the old one with it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.images.unmixing import average, unmixed
from pipelines.synthesis.defects.background import NEARLY_WHITE, PURE_SHARE, PURE_WHITE

#: Width of the averages from which colours in soft edges are estimated, as a share of the longer side.
REACH = 0.02
#: Width of the rim of mixed pixels if a mask does not show it, in pixels.
RIM = 2
#: White within a mask is background from this share of the picture on, up to this share of the product.
LEAST_HOLE, LARGEST_HOLE = 0.002, 0.12
#: Pieces of a mask below this share of the picture are not product.
SPECK = 0.0003


def foreground(
    image: NDArray[np.uint8], alpha: NDArray[np.uint8], background: int | None = None
) -> NDArray[np.uint8]:
    """Return the product's own colour in its soft edges: uint8 (H, W, 3), equal to the image where alpha is 0 or 255.

    image: uint8 (H, W, 3). alpha: uint8 (H, W), 255 is product. background: grey level of a uniform background; None
    for any other background. The method is that of `pipelines.images.unmixing`.
    """
    band = np.flatnonzero((alpha > 0) & (alpha < 255))
    if band.size == 0:
        return image
    # Averages are taken over a smaller copy: they are smooth, and it costs a quarter.
    height, width = alpha.shape
    small = max(1, width // 2), max(1, height // 2)
    pixels = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(1 / 255)
    reach = 2 * max(2, round(REACH * max(small))) + 1
    rows, columns = np.divmod(band, width)
    near = np.minimum(rows // 2, small[1] - 1) * small[0] + np.minimum(columns // 2, small[0] - 1)
    product = average(pixels, share, reach).reshape(-1, 3)[near]
    if background is None:
        behind = average(pixels, 1 - share, reach).reshape(-1, 3)[near]
    else:
        behind = np.full((1, 3), background, np.float32)
    a = (alpha.ravel()[band].astype(np.float32) * np.float32(1 / 255))[:, None]
    own = unmixed(image.reshape(-1, 3)[band].astype(np.float32), a, product, behind)
    result = image.copy()
    result.reshape(-1, 3)[band] = np.clip(np.rint(own), 0, 255).astype(np.uint8)
    return result


def soft_edges(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the opacity uint8 (H, W) of a product on white, uint8 (H, W, 3), for a mask, uint8 (H, W), with hard
    edges.

    Hard masks count half-white pixels on the product's rim as product. In the rim of such a mask, the opacity becomes
    the pixel's distance from white divided by that of the darkest neighbour. Other masks are returned unchanged.
    """
    gradient = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    edge = cv2.countNonZero(cv2.inRange(gradient, 128, 255))
    if cv2.countNonZero(cv2.inRange(mask, 8, 247)) * 4 >= edge:
        return mask
    return _rim_share(image, mask)


def with_holes(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mask, uint8 (H, W), of a product on white, uint8 (H, W, 3), with holes where the background shows
    through.

    Masks made from what is connected with the border count the background behind spokes, straps and handles as product.
    White is taken for background if it is pure, not tiny, and not so large a part of the product that it may be white
    product.
    """
    lowest = darkest(image)
    near = cv2.bitwise_and(cv2.inRange(lowest, NEARLY_WHITE, 255), cv2.inRange(mask, 128, 255))
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA]
    hole = (area >= LEAST_HOLE * mask.size) & (area <= LARGEST_HOLE * cv2.countNonZero(mask))
    hole[0] = False  # pixels that are not near white
    if not hole.any():
        return mask
    pure = np.bincount(pieces[lowest >= PURE_WHITE], minlength=area.size)
    hole &= pure >= PURE_SHARE * area
    holes = hole.view(np.uint8)[pieces]
    opened = np.where(holes > 0, np.uint8(0), mask)
    rim = cv2.dilate(holes, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8))
    return np.where(rim > 0, np.minimum(opened, _rim_share(image, opened)), opened)


def _rim_share(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the opacity that the picture, on white, shows at the rim of a mask; 255 deeper inside, 0 outside."""
    lacking = cv2.bitwise_not(darkest(image))
    most = cv2.dilate(lacking, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8))
    mixed = lacking.astype(np.float32) / np.maximum(most, 1)
    inside = cv2.distanceTransform((mask > 127).view(np.uint8), cv2.DIST_C, 3)
    # Deeper inside, less can be white, so that a white stripe along the edge stays.
    share = np.clip(np.maximum(mixed, (inside - 1) / RIM), 0, 1) * (inside > 0)
    return np.rint(share * 255).astype(np.uint8)


def without_specks(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mask, uint8 (H, W), without pieces smaller than SPECK of the picture: JPEG's rings in white."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats((mask > 0).view(np.uint8), connectivity=8)
    small = stats[:, cv2.CC_STAT_AREA] < SPECK * mask.size
    small[0] = False  # pixels that are not product
    return np.where(small[pieces], np.uint8(0), mask) if small.any() and count > 1 else mask


def darkest(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the lowest of each pixel's channels: uint8 (H, W)."""
    red, green, blue = cv2.split(image)
    return cv2.min(cv2.min(red, green), blue)


def most_apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the largest difference of a channel of two pictures, uint8 (H, W, 3): uint8 (H, W)."""
    red, green, blue = cv2.split(cv2.absdiff(one, other))
    return cv2.max(cv2.max(red, green), blue)


def over(
    product: NDArray[np.uint8], alpha: NDArray[np.uint8], background: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return a F + (1 - a) B, rounded: exactly the product where alpha is 255, the background where it is 0.

    product, background: uint8 (H, W, 3). alpha: uint8 (H, W).
    """
    share = alpha.astype(np.float32) * np.float32(1 / 255)
    return cv2.blendLinear(product, background, share, np.float32(1) - share)


def on_white(product: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the product on white; see `over`."""
    return over(product, alpha, np.full_like(product, 255))
