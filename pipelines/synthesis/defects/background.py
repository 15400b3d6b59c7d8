"""Backgrounds that are not white: a product lies on, hangs before or stands on a drawn surface, with its shadow.

Severity. The surfaces are those that private sellers have at home (boards, carpets, sheets, tiles, painted walls; see
pipelines/synthesis/products/backgrounds.py), from pale cloth, 12 levels of 255 below white, to dark wood. The product
keeps its pixels, so that the pair is exact: only its surroundings change.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipelines.synthesis.products.backgrounds import flat_background, standing_background
from pipelines.synthesis.products.camera import Camera
from pipelines.synthesis.products.shadows import lying_shadow, standing_shadow

#: A pixel whose darkest channel is at least this may be the white around a product: JPEG rings by 5 to 10 levels.
NEARLY_WHITE = 244
#: White that a product encloses (a handle, the space between two soles) counts as background if PURE_SHARE of it is at
#: least PURE_WHITE and it is ENCLOSED_SHARE of the picture: white prints on photographed cloth have shades.
PURE_WHITE, PURE_SHARE, ENCLOSED_SHARE = 253, 0.88, 0.004
#: Maximum width of soft edges inside the product, as a share of the longer side.
SOFT_EDGE = 0.012
#: Below this share of white the product fills the picture, and a margin of MARGIN of the shorter side is cleared.
FILLED, MARGIN = 0.01, 0.08
#: Limits of the longer side at which surfaces are drawn, because their boards and folds have sizes in pixels.
DRAWN = (256, 640)
#: Least mean distance of the surroundings from white, in levels of 255.
VISIBLE_LEVELS = 12.0
#: Reach of the shadows of lying and hanging products, as a multiple of a flat garment's.
THICKNESS = (1.0, 3.5)
#: Share of products that stand on something instead of lying or hanging.
STANDING = 0.2


def composite_on_white(image: NDArray[np.uint8], mask: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return `mask * image + (1 - mask) * white`: uint8 (H, W, 3), with mask float (H, W) in [0, 1]."""
    alpha = np.asarray(mask, dtype=np.float32)[..., None]
    return np.rint(255.0 - alpha * (255.0 - image.astype(np.float32))).astype(np.uint8)


def non_white_background(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Put a product on white, uint8 (H, W, 3), onto a surface; its mask is estimated from the white."""
    return put_on_background(image, rng)


def put_on_background(
    image: NDArray[np.uint8], rng: np.random.Generator, mask: NDArray[np.floating] | None = None
) -> NDArray[np.uint8]:
    """Replace the white around a product by a surface with the product's shadow.

    image: uint8 (H, W, 3), a product on white. mask: float (H, W) in [0, 1], 1 is product; without it `product_alpha`
    estimates one. Returns a new uint8 (H, W, 3), a p + (1 - a) B for p unmixed from its white: equal to the image where
    the mask is 1. Raises ValueError if the sizes differ.
    """
    if mask is not None and mask.shape != image.shape[:2]:
        raise ValueError(f"the mask is {mask.shape}, the image {image.shape[:2]}")
    alpha = product_alpha(image) if mask is None else np.asarray(mask, dtype=np.float32)
    if (1.0 - alpha).mean() < FILLED:
        alpha = _inner_part(*alpha.shape)
        image = composite_on_white(image, alpha)
    surface = _surroundings(alpha, rng)
    missing = 255.0 * (1.0 - alpha)[..., None] * (1.0 - surface)  # how much darker the surface is than white
    return np.clip(np.rint(image - missing), 0, 255).astype(np.uint8)


def product_alpha(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the share of product in each pixel, float32 (H, W) in [0, 1], for a product on white, uint8 (H, W, 3).

    Background is near white that is connected with the border, and large pure white that the product encloses. Pixels
    beside it are mixtures: their share of product is their distance from white divided by that of the darkest
    neighbour. White products on white cannot be separated: give `put_on_background` their mask.
    """
    lowest = image.min(axis=-1)
    backdrop = _backdrop(lowest)
    if not backdrop.any():
        return np.ones(lowest.shape, dtype=np.float32)
    reach = max(2, round(SOFT_EDGE * max(lowest.shape)))
    depth = ndimage.distance_transform_cdt(~backdrop, "chessboard").astype(np.float32)
    darkest = ndimage.minimum_filter(lowest, 2 * reach + 1)
    mixed = (255.0 - lowest) / np.maximum(255.0 - darkest, 1.0)
    # Deeper inside, less can be white, so that a white stripe along the edge stays.
    return np.where(backdrop, 0.0, np.clip(np.maximum(mixed, (depth - 1) / reach), 0, 1)).astype(np.float32)


def _backdrop(lowest: NDArray[np.uint8]) -> NDArray[np.bool_]:
    labelled, count = ndimage.label(lowest >= NEARLY_WHITE)
    outer = np.zeros(count + 1, dtype=bool)
    for side in (labelled[0], labelled[-1], labelled[:, 0], labelled[:, -1]):
        outer[side] = True
    area = np.bincount(labelled.ravel(), minlength=count + 1)
    pure = np.bincount(labelled.ravel(), weights=(lowest >= PURE_WHITE).ravel(), minlength=count + 1)
    outer |= (area >= max(4.0, ENCLOSED_SHARE * lowest.size)) & (pure >= PURE_SHARE * area)
    outer[0] = False  # pixels that are not near white at all
    return outer[labelled]


def _inner_part(height: int, width: int) -> NDArray[np.float32]:
    """Return float32 (H, W): 1 inside, 0 in a margin, with a soft edge."""
    margin = max(1.0, MARGIN * min(height, width))
    row = np.minimum(np.arange(height), np.arange(height)[::-1])[:, None]
    column = np.minimum(np.arange(width), np.arange(width)[::-1])[None, :]
    return np.clip(np.minimum(row, column) + 1.0 - margin, 0, 1).astype(np.float32)


def _surroundings(alpha: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return surface and shadow as the camera sees them: float32 (H, W, 3) in [0, 1]."""
    height, width = alpha.shape
    zoom = min(max(max(height, width), DRAWN[0]), DRAWN[1]) / max(height, width)
    drawn = max(32, round(height * zoom)), max(32, round(width * zoom))
    mask = _resized(alpha, *drawn)
    picture = Camera.draw(*drawn, rng).take(_lit_surface(mask, rng))
    around = _resized(picture, height, width)
    dim = 255.0 * float((1.0 - around)[alpha < 1].mean()) if (alpha < 1).any() else 255.0
    if dim < VISIBLE_LEVELS:
        around = around - np.float32((VISIBLE_LEVELS - dim) / 255)
    return around


def _lit_surface(mask: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a surface under the shadow of the product in `mask`: float32 (H, W, 3), about [0, 1]."""
    height, width = mask.shape
    rows, columns = np.flatnonzero((mask > 0.5).any(axis=1)), np.flatnonzero((mask > 0.5).any(axis=0))
    if rows.size == 0:
        return np.asarray(flat_background(rng, height, width), dtype=np.float32)
    reach = float(max(rows[-1] - rows[0], columns[-1] - columns[0], 2)) / 2
    stands = rng.random() < STANDING and rows[-1] < height - 2
    if stands:
        foot = float(rows[-1])
        picture = standing_background(rng, height, width, foot / height)
        shadow = standing_shadow(mask, foot, reach, rng)
    else:
        picture = flat_background(rng, height, width)
        shadow = lying_shadow(mask, reach * float(rng.uniform(*THICKNESS)), rng)
    return np.asarray(picture * (1.0 - shadow)[..., None], dtype=np.float32)


def _resized(field: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize float32 (h, w) or (h, w, 3) in [0, 1]; the result stays in [0, 1]."""
    if field.shape[:2] == (height, width):
        return field
    planes = [field] if field.ndim == 2 else list(np.moveaxis(field, -1, 0))
    scaled = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), Image.Resampling.BICUBIC)
        )
        for plane in planes
    ]
    return np.clip(scaled[0] if field.ndim == 2 else np.stack(scaled, axis=-1), 0, 1)
