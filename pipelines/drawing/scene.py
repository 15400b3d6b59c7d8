"""A product photo with its exact ground truth, drawn from nothing but an id and a seed.

photo = (m F + (1 - m) B) and target = (m F + (1 - m) white), where F is the product under the photo's light,
vignette and camera noise, and B the background with the product's shadow. Where the mask m is 1 the two are
equal to the last bit.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipelines.drawing.backgrounds import flat_background, standing_background
from pipelines.drawing.bag import design_bag
from pipelines.drawing.canvas import Canvas, Placement
from pipelines.drawing.design import Design, Pose
from pipelines.drawing.dress import design_dress
from pipelines.drawing.mug import design_mug
from pipelines.drawing.noise import softened
from pipelines.drawing.shirt import design_shirt
from pipelines.drawing.shoe import design_shoe
from pipelines.drawing.sunglasses import design_sunglasses
from pipelines.drawing.trousers import design_trousers

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
    """One drawn product: `product` is it on white, the target; `photo` is it where a seller took it."""

    product_type: str
    product: np.ndarray  # uint8 (H, W, 3)
    mask: np.ndarray  # float32 (H, W) in [0, 1]
    photo: np.ndarray  # uint8 (H, W, 3)


def scene_generator(image_id: str, seed: int) -> np.random.Generator:
    """The randomness of one scene: a function of its id and the catalog's seed, of nothing else."""
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(f"{seed}/{image_id}".encode()).digest()[:16], "big")
    )


def draw_scene(image_id: str, seed: int, tilt_degrees: float = 0.0, room_degrees: float = 0.0) -> Scene:
    """Draw the scene of `image_id`: same arguments, same pixels. The long side is 384 to 512 pixels.

    tilt_degrees turns the product, not the ground, counter-clockwise about the picture's centre;
    room_degrees keeps it so small that it stays in the picture when turned that far. The product's look
    depends on neither, its size and place on the room alone: a tilted and an upright scene are an exact pair.
    """
    shapes, ground, lens = scene_generator(image_id, seed).spawn(3)
    product_type = PRODUCT_TYPES[int(shapes.integers(len(PRODUCT_TYPES)))]
    long_side, aspect = int(shapes.choice(LONG_SIDES)), float(shapes.choice(ASPECTS))
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
    background = _background(canvas.coverage, placement.scale, foot, ground)
    camera = _Camera.draw(height, width, lens)
    surrounds = camera.take(background)
    window = _bounds(mask)
    product, alpha = camera.take(canvas.colour(window), window), mask[window][..., None]
    target = np.full((height, width, 3), 255, dtype=np.uint8)
    target[window] = _to_bytes(alpha * product + (1 - alpha))
    photo = _to_bytes(surrounds)
    photo[window] = _to_bytes(alpha * product + (1 - alpha) * surrounds[window])
    return Scene(product_type, target, mask, photo)


def _quantised(coverage: np.ndarray) -> np.ndarray:
    """Coverage on the 256 levels that a mask file has, so that the file is the exact truth."""
    return np.rint(coverage * 255).astype(np.float32) / np.float32(255)


def _bounds(mask: np.ndarray) -> tuple[slice, slice]:
    """The smallest window that holds everything of `mask` above 0."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] -> uint8, rounded."""
    return (picture * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _place(design: Design, height: int, width: int, room: float, rng: np.random.Generator) -> Placement:
    """Large in the frame, near the middle, upright to about a degree: a tilt is a defect and comes later."""
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
    """`placement` turned counter-clockwise, as a viewer sees it, about the picture's centre."""
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
    """Ground and shadow; `foot` is the row on which a standing product stands, None where it lies."""
    height, width = coverage.shape
    if foot is None:
        picture, shadow = flat_background(rng, height, width), _lying_shadow(coverage, scale, rng)
    else:
        picture = standing_background(rng, height, width, foot / height)
        shadow = _standing_shadow(coverage, foot, scale, rng)
    return picture * (1.0 - shadow)[..., None]


def _lying_shadow(coverage: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A dark rim where the goods touch the ground, a soft shadow thrown to one side: float32 (H, W)."""
    reach = scale * rng.uniform(0.02, 0.06)
    angle = rng.uniform(0.2, math.pi - 0.2)
    thrown = softened(
        _shifted(coverage, reach * math.cos(angle), reach * math.sin(angle)), max(3.0, reach * 1.4)
    )
    contact = softened(coverage, max(2.0, scale * 0.018))
    return np.clip(
        thrown * np.float32(rng.uniform(0.25, 0.5)) + contact * np.float32(rng.uniform(0.2, 0.4)), 0, 0.8
    )


def _standing_shadow(coverage: np.ndarray, foot: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """The silhouette thrown onto the ground behind the goods, darkest at the foot: float32 (H, W)."""
    height, width = coverage.shape
    flat = rng.uniform(0.12, 0.25)
    lean = rng.uniform(-0.6, 0.6)
    row = np.arange(height, dtype=np.float32)[:, None]
    column = np.arange(width, dtype=np.float32)[None, :]
    above = (foot + scale * 0.02 - row) / np.float32(
        flat
    )  # how high on the silhouette this ground point's caster is
    source_row = np.clip(foot - above, 0, height - 1).astype(np.int32)
    source_column = np.clip(column - above * np.float32(lean), 0, width - 1).astype(np.int32)
    cast = np.where(
        (above > -scale * 0.04) & (above < foot), coverage[source_row, source_column], 0.0
    ).astype(np.float32)
    thrown = softened(cast, max(3.0, scale * 0.06)) * np.exp(
        -np.clip(above, 0, None) / np.float32(1.4 * scale)
    )
    near = np.exp(-(((row - foot) / np.float32(scale * 0.045)) ** 2))
    columns = coverage[int(max(0, foot - scale * 0.12)) : int(min(height, foot + 2))]
    span = (
        softened(np.broadcast_to(columns.max(axis=0), (8, width)), 6.0)[4]
        if columns.size
        else np.zeros(width)
    )
    contact = near * np.clip(span, 0, 1)[None, :].astype(np.float32)
    return np.clip(
        thrown * np.float32(rng.uniform(0.3, 0.55)) + contact * np.float32(rng.uniform(0.4, 0.65)), 0, 0.85
    )


def _shifted(field: np.ndarray, right: float, down: float) -> np.ndarray:
    """`field` moved by whole pixels, zeros coming in."""
    dx, dy = round(right), round(down)
    height, width = field.shape
    moved = np.zeros_like(field)
    moved[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = field[
        max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)
    ]
    return moved


@dataclass(frozen=True)
class _Camera:
    """Light, white balance and noise of one photo: what product and background have in common."""

    light: np.ndarray  # float32 (H, W): exposure, fall-off to one side, vignetting
    noise: np.ndarray  # float32 (H, W)
    balance: np.ndarray  # float32 (3,)

    @classmethod
    def draw(cls, height: int, width: int, rng: np.random.Generator) -> "_Camera":
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        fall = np.float32(rng.uniform(0.0, 0.08)) * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1))
        distance = x * x + y * y
        vignette = 1.0 - np.float32(rng.uniform(0.02, 0.14) / 4) * distance * distance
        exposure, warmth = rng.uniform(0.94, 1.05), rng.normal(0, 0.025)
        noise = rng.standard_normal((height, width), dtype=np.float32) * np.float32(
            rng.uniform(0.5, 2.4) / 255
        )
        balance = np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32)
        return cls((1.0 + fall) * vignette * exposure, noise, balance)

    def take(
        self, picture: np.ndarray, window: tuple[slice, slice] = (slice(None), slice(None))
    ) -> np.ndarray:
        """The part of the scene in `window`, float32 (h, w, 3), as this camera shows it, in [0, 1]."""
        seen = picture * self.light[window][..., None]
        seen *= self.balance
        seen += self.noise[window][..., None]
        return np.clip(seen, 0, 1, out=seen)
