"""Product photos with exact ground truth, drawn from an id and a seed.

photo = (m F + (1 - m) B) and target = (m F + (1 - m) white), where F is the product under the photo's light, vignette
and camera noise, and B the background with the product's shadow. Where the mask m is 1, both are equal to the last bit.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.synthesis.products.backgrounds import flat_background, standing_background
from pipelines.synthesis.products.bag import design_bag
from pipelines.synthesis.products.camera import Camera
from pipelines.synthesis.products.canvas import Canvas, Placement
from pipelines.synthesis.products.design import Design, Pose
from pipelines.synthesis.products.dress import design_dress
from pipelines.synthesis.products.mug import design_mug
from pipelines.synthesis.products.shadows import lying_shadow, standing_shadow
from pipelines.synthesis.products.shirt import design_shirt
from pipelines.synthesis.products.shoe import design_shoe
from pipelines.synthesis.products.sunglasses import design_sunglasses
from pipelines.synthesis.products.trousers import design_trousers

DESIGNS: dict[str, Callable[[np.random.Generator], Design]] = {
    "shirt": design_shirt,
    "trousers": design_trousers,
    "dress": design_dress,
    "mug": design_mug,
    "shoe": design_shoe,
    "bag": design_bag,
    "sunglasses": design_sunglasses,
}
PRODUCT_TYPES = tuple(DESIGNS)

LONG_SIDES = (384, 416, 448, 480, 512)
ASPECTS = (3 / 4, 3 / 4, 1.0, 4 / 3)  # width to height; phones held upright are the most common


@dataclass(frozen=True)
class Scene:
    """One drawn product: `product` shows it on white, the target; `photo` shows it as a seller would take it."""

    product_type: str
    product: np.ndarray  # uint8 (H, W, 3)
    mask: np.ndarray  # float32 (H, W) in [0, 1]
    photo: np.ndarray  # uint8 (H, W, 3)


def scene_generator(image_id: str, seed: int) -> np.random.Generator:
    """Return the random generator of one scene, which depends only on its id and the catalog's seed."""
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(f"{seed}/{image_id}".encode()).digest()[:16], "big")
    )


def draw_scene(
    image_id: str,
    seed: int,
    tilt_degrees: float = 0.0,
    room_degrees: float = 0.0,
    long_sides: Sequence[int] = LONG_SIDES,
) -> Scene:
    """Draw the scene of `image_id`: same arguments, same pixels. The long side is one of `long_sides`, in pixels.

    tilt_degrees turns the product, not the background, counter-clockwise about the picture's centre; room_degrees makes
    it small enough to stay in the picture when turned that far. The product's look depends on neither, its size and
    position only on the room: a tilted and an upright scene are an exact pair.
    """
    shapes, surface, lens = scene_generator(image_id, seed).spawn(3)
    product_type = PRODUCT_TYPES[int(shapes.integers(len(PRODUCT_TYPES)))]
    long_side, aspect = int(shapes.choice(long_sides)), float(shapes.choice(ASPECTS))
    width, height = (
        (long_side, round(long_side / aspect)) if aspect > 1 else (round(long_side * aspect), long_side)
    )
    design = DESIGNS[product_type](shapes)
    upright = _place(design, height, width, math.radians(room_degrees), shapes)
    placement = _turned(upright, height, width, math.radians(tilt_degrees))
    canvas = Canvas(height, width, placement)
    design.paint(canvas)
    mask = _quantised(canvas.coverage)
    stands = design.pose is Pose.STANDING and tilt_degrees == 0.0
    foot = placement.centre_y + (design.extent[3] - 0.03) * placement.scale if stands else None
    background = _background(canvas.coverage, placement.scale, foot, surface)
    camera = Camera.draw(height, width, lens)
    surrounds = camera.take(background)
    window = _bounds(mask)
    product, alpha = camera.take(canvas.colour(window), window), mask[window][..., None]
    target = np.full((height, width, 3), 255, dtype=np.uint8)
    target[window] = _to_bytes(alpha * product + (1 - alpha))
    photo = _to_bytes(surrounds)
    photo[window] = _to_bytes(alpha * product + (1 - alpha) * surrounds[window])
    return Scene(product_type, target, mask, photo)


def _quantised(coverage: np.ndarray) -> np.ndarray:
    """Return coverage on the 256 levels of a mask file, so that the file is the exact truth."""
    return np.rint(coverage * 255).astype(np.float32) / np.float32(255)


def _bounds(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the smallest window that contains everything of `mask` above 0."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    """Return uint8, rounded, of float32 in [0, 1]."""
    return (picture * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _place(design: Design, height: int, width: int, room: float, rng: np.random.Generator) -> Placement:
    """Return a placement: large, near the middle, upright to about a degree, since a tilt is added later."""
    left, top, right, bottom = design.extent
    wide, high = right - left, bottom - top
    cosine, sine = math.cos(room), math.sin(room)
    turned_wide, turned_high = wide * cosine + high * sine, high * cosine + wide * sine
    scale = rng.uniform(0.68, 0.92) * min(width / turned_wide, height / turned_high)
    slack_x, slack_y = width - scale * turned_wide, height - scale * turned_high
    if room:
        slack_x = slack_y = min(slack_x, slack_y)  # turning moves an offset from one axis to the other
    mirror = bool(rng.random() < 0.5)
    middle_x = (left + right) / 2 * (-1 if mirror else 1)
    offset_x, offset_y = (float(np.clip(rng.normal(mean, 0.12), -0.3, 0.3)) for mean in (0.0, 0.03))
    centre_x = width / 2 - middle_x * scale + offset_x * slack_x
    centre_y = height / 2 - (top + bottom) / 2 * scale + offset_y * slack_y
    limp = rng.uniform(0.004, 0.016) if design.pose is Pose.CLOTH else 0.0
    lean = math.radians(rng.normal(0, 0.6))
    return Placement(centre_x, centre_y, scale, lean, mirror, limp, rng.uniform(0, 2 * math.pi))


def _turned(placement: Placement, height: int, width: int, radians: float) -> Placement:
    """Return `placement` turned counter-clockwise, to a viewer, about the picture's centre."""
    cosine, sine = math.cos(radians), math.sin(radians)
    right, down = placement.centre_x - width / 2, placement.centre_y - height / 2
    return replace(
        placement,
        centre_x=width / 2 + right * cosine + down * sine,
        centre_y=height / 2 + down * cosine - right * sine,
        radians=placement.radians - radians,
    )


def _background(
    coverage: np.ndarray, scale: float, foot: float | None, rng: np.random.Generator
) -> np.ndarray:
    """Return surface and shadow; `foot` is the row on which a standing product stands, None if it lies."""
    height, width = coverage.shape
    if foot is None:
        picture, shadow = flat_background(rng, height, width), lying_shadow(coverage, scale, rng)
    else:
        picture = standing_background(rng, height, width, foot / height)
        shadow = standing_shadow(coverage, foot, scale, rng)
    return picture * (1.0 - shadow)[..., None]
