"""What products are laid on while training: other photos' grounds, drawn surfaces, plain ones; and their shadows."""

import colorsys
import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.contracts.splits import hash_number
from pipelines.synthesis.defects.colours import Tint
from pipelines.synthesis.defects.views import moved, seen
from pipelines.synthesis.products.backgrounds import flat_background, standing_background

#: Longer side of what the bank keeps, pixels: enough for a training at 256, a quarter of a megabyte for each.
SIDE = 320
#: Photos whose product takes more than this share show too little of their ground.
MOST_PRODUCT = 0.7
#: How far beyond the mask a ground counts as product: soft edges and contact shadows, as a share of the longer side.
RIM = 0.025
#: Tones are what is larger than 2 ** (FINEST + 1) pixels, the rest is texture.
FINEST = 3
#: Parts of the ground that a hole is filled from at most, and the least share of it that one must fill.
FILLINGS, LEAST_COVERED = 4, 0.03
#: Pixels around a hole by which a part is put in phase.
COMPARED = 800
#: Parts are compared on a copy smaller by this factor, and blended over about this many pixels.
SEARCHED, SEAM = 8, 2.0
#: Steps to either side, up and down, by which parts are moved, as far as half of the picture.
MOVES = 2
#: Drawn surfaces of a process, and their side in pixels.
DRAWN, DRAWN_SIDE = 192, 288
#: Side of the noise that plain grounds take theirs from.
NOISE_SIDE = 768
#: Shares of photos' grounds and of drawn surfaces; the rest is plain.
PHOTOS_SHARE, DRAWN_SHARE = 0.6, 0.25

Image = NDArray[np.uint8]


class Grounds:
    """A bank of photos' grounds, uint8 (h, w, 3); without any, surfaces are drawn or plain."""

    def __init__(self, pictures: tuple[Image, ...] = ()) -> None:
        self.pictures = pictures

    @classmethod
    def from_photos(cls, photos: Iterable[tuple[Image, NDArray[np.uint8]]], side: int = SIDE) -> "Grounds":
        """Grounds of photos, uint8 (H, W, 3), with masks, uint8 (H, W), 255 product; the products are filled in.

        Photos that are nearly all product are left out. side: longer side that is kept, pixels.
        """
        return cls(
            tuple(ground for ground in (ground_of(*pair, side) for pair in photos) if ground is not None)
        )

    def draw(self, width: int, height: int, rng: np.random.Generator) -> Image:
        """A ground of that size, uint8 (height, width, 3): a part of one, turned, mirrored, in another light."""
        kind = float(rng.random())
        if self.pictures and kind < PHOTOS_SHARE:
            return _part(self.pictures[int(rng.integers(len(self.pictures)))], width, height, rng)
        if kind < PHOTOS_SHARE + DRAWN_SHARE:
            return _part(drawn_ground(int(rng.integers(DRAWN))), width, height, rng)
        return plain_ground(width, height, rng)


def ground_of(photo: Image, mask: NDArray[np.uint8], side: int = SIDE) -> Image | None:
    """The photo's ground with its product filled in: uint8 (h, w, 3), or None where hardly any is seen.

    Tones come from the ground around, texture from another part of it, mirrored or not: the one that goes on best what
    lies around the product.
    """
    if photo.shape[:2] != mask.shape:
        raise ValueError(f"the mask is {mask.shape}, the photo {photo.shape[:2]}")
    scale = min(1.0, side / max(mask.shape))
    size = max(16, round(mask.shape[1] * scale)), max(16, round(mask.shape[0] * scale))
    photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    reach = 2 * max(1, round(RIM * max(size))) + 1
    grown = cv2.dilate(
        cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.ones((reach, reach), np.uint8)
    )
    free = (grown < 16).astype(np.float32)
    if 1.0 - float(free.mean()) > MOST_PRODUCT:
        return None
    levels = photo.astype(np.float32)
    tone = _tone(levels, free)
    texture, known = (levels - tone) * free[..., None], free
    for _ in range(FILLINGS):
        if known.all():
            break
        shift = _best_shift(texture, known, free)
        if shift is None:
            break
        brought = cv2.warpAffine(texture, shift, size, flags=cv2.INTER_NEAREST)
        there = cv2.warpAffine(free, shift, size, flags=cv2.INTER_NEAREST)
        taken = cv2.GaussianBlur(known, (0, 0), SEAM)[..., None] * known[..., None]  # no cut along the rim
        texture = np.where(there[..., None] > 0, brought + taken * (texture - brought), texture)
        known = np.maximum(known, there)
    return np.clip(np.rint(tone + texture), 0, 255).astype(np.uint8)


def _best_shift(
    texture: NDArray[np.float32], known: NDArray[np.float32], free: NDArray[np.float32]
) -> NDArray[np.float64] | None:
    """The map (2, 3) that brings known ground into the hole: the more of it, and the better it fits around, the better.

    texture: float32 (H, W, 3), without slow changes of tone. known, free: float32 (H, W), 1 where there is texture,
    and where there was from the beginning. None where no map brings any.
    """
    height, width = known.shape
    small = max(4, width // SEARCHED), max(4, height // SEARCHED)
    looks = cv2.resize(texture, small, interpolation=cv2.INTER_AREA)
    have = cv2.resize(free, small, interpolation=cv2.INTER_NEAREST).ravel()
    hole = 1.0 - cv2.resize(known, small, interpolation=cv2.INTER_NEAREST)
    ring = (cv2.dilate(hole, np.ones((5, 5), np.uint8)) * (1.0 - hole)).ravel()
    maps, places, inside = _shifts(*small)
    there = have[places] * inside
    covered = there @ hole.ravel() / max(float(hole.sum()), 1.0)
    pixels = looks.reshape(-1, 3)
    apart = np.abs(pixels[places] - pixels).sum(axis=-1) / 3
    beside = there * ring
    misfit = (apart * beside).sum(axis=1) / np.maximum(beside.sum(axis=1), 1.0)
    worth = np.where(covered < LEAST_COVERED, 0.0, covered / (1.0 + misfit / (np.abs(looks).mean() + 1.0)))
    best = int(worth.argmax())
    if worth[best] == 0:
        return None
    chosen = maps[best].copy()
    chosen[:, 2] = np.rint(chosen[:, 2] * (width / small[0], height / small[1]))
    return _in_phase(chosen, texture, known, free)


def _in_phase(
    shift: NDArray[np.float64],
    texture: NDArray[np.float32],
    known: NDArray[np.float32],
    free: NDArray[np.float32],
) -> NDArray[np.float64]:
    """The map moved by up to SEARCHED pixels, so that stripes and tiles go on where they were; see `_best_shift`."""
    height, width = known.shape
    hole = 1.0 - known
    ring = cv2.dilate(hole, np.ones((2 * SEARCHED + 1, 2 * SEARCHED + 1), np.uint8)) * known
    y, x = np.nonzero(ring)
    every = max(1, len(y) // COMPARED)
    y, x = y[::every], x[::every]
    here = texture[y, x]
    (flip_x, _, to_x), (_, flip_y, to_y) = shift
    best, least = shift, math.inf
    for down in range(-SEARCHED, SEARCHED + 1):
        for right in range(-SEARCHED, SEARCHED + 1):
            from_x, from_y = (
                (flip_x * (x - to_x - right)).astype(int),
                (flip_y * (y - to_y - down)).astype(int),
            )
            inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
            inside[inside] = free[from_y[inside], from_x[inside]] > 0
            if inside.sum() * 4 < len(y):  # too little to compare
                continue
            misfit = float(np.abs(texture[from_y[inside], from_x[inside]] - here[inside]).mean())
            if misfit < least:
                least = misfit
                best = np.array([[flip_x, 0, to_x + right], [0, flip_y, to_y + down]], np.float64)
    return best


@lru_cache(maxsize=32)
def _shifts(width: int, height: int) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float32]]:
    """Maps (N, 2, 3) that mirror a picture or not and move it by shares of its sides; where each pixel is then from.

    That is its index (N, height * width), and 1 where it is inside of the picture.
    """
    maps, places, inside = [], [], []
    y, x = np.mgrid[:height, :width]
    moves = np.arange(-MOVES, MOVES + 1) / (MOVES + 2)
    for flip_x, flip_y, right, down in product((1, -1), (1, -1), moves, moves):
        if (flip_x, flip_y, right, down) == (1, 1, 0, 0):
            continue
        to_x = round(right * width) + (width - 1 if flip_x < 0 else 0)
        to_y = round(down * height) + (height - 1 if flip_y < 0 else 0)
        from_x, from_y = flip_x * (x - to_x), flip_y * (y - to_y)
        within = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
        maps.append([[flip_x, 0, to_x], [0, flip_y, to_y]])
        places.append(np.where(within, from_y * width + from_x, 0).ravel())
        inside.append(within.ravel())
    return np.array(maps, np.float64), np.array(places, np.int32), np.array(inside, np.float32)


def _tone(levels: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Slow changes of tone of what is known, continued into what is not: averages over ever larger surroundings."""
    height, width = known.shape
    stack = []
    colour, weight = levels * known[..., None], known
    while min(weight.shape) > 2:
        size = max(1, weight.shape[1] // 2), max(1, weight.shape[0] // 2)
        colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        stack.append((colour, weight))
    tone = np.full((1, 1, 3), levels[known > 0].mean(axis=0), np.float32)
    for colour, weight in reversed(stack[FINEST:]):
        tone = cv2.resize(tone, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        tone = cv2.blur(tone, (3, 3)).reshape(*weight.shape, 3)
        sure = np.clip(weight * 2, 0, 1)[..., None]
        tone = tone + sure * (colour / np.maximum(weight, 1e-3)[..., None] - tone)
    return cv2.resize(tone, (width, height), interpolation=cv2.INTER_CUBIC)


@lru_cache(maxsize=DRAWN)
def drawn_ground(number: int) -> Image:
    """Surface `number` of DRAWN, uint8 (DRAWN_SIDE, DRAWN_SIDE, 3): a function of the number alone."""
    rng = np.random.default_rng(hash_number("drawn ground", number))
    if number % 5:
        surface = flat_background(rng, DRAWN_SIDE, DRAWN_SIDE)
    else:
        surface = standing_background(rng, DRAWN_SIDE, DRAWN_SIDE, float(rng.uniform(0.6, 0.9)))
    return np.rint(np.clip(surface, 0, 1) * 255).astype(np.uint8)


def plain_ground(width: int, height: int, rng: np.random.Generator) -> Image:
    """One colour, or a gradient between two shades of it, with a little noise: uint8 (height, width, 3).

    One in five is nearly white, as a sheet of paper in the evening: to be whitened as well, and easily overlooked.
    """
    light, saturation = float(rng.uniform(0.08, 0.96)), float(rng.beta(1.0, 2.5))
    if rng.random() < 0.2:
        light, saturation = float(rng.uniform(0.82, 0.98)), float(rng.uniform(0.0, 0.06))
    hue, other = float(rng.random()), float(np.clip(light + rng.normal(0.0, 0.12), 0.04, 1.0))
    if rng.random() < 0.3:
        other = light
    corners = [
        np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32) * 255 for value in (light, other)
    ]
    toward = float(rng.uniform(0, 2 * math.pi))
    # A gradient between four corners, enlarged: OpenCV's interpolation is the fastest arithmetic at hand.
    x, y = np.array([[-0.5, 0.5]], np.float32), np.array([[-0.5], [0.5]], np.float32)
    share = np.clip(0.5 + x * math.cos(toward) + y * math.sin(toward), 0, 1).astype(np.float32)[..., None]
    picture = cv2.resize(
        corners[0] + share * (corners[1] - corners[0]), (width, height), interpolation=cv2.INTER_LINEAR
    )
    if rng.random() < 0.7:
        picture += _noise(width, height, rng)[..., None] * np.float32(rng.uniform(0.5, 3.0))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _noise(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A part of NOISE_SIDE squared normal numbers that are the same for ever: drawing fresh ones takes longer."""
    field = _noise_field()
    top, left = (int(rng.integers(max(1, NOISE_SIDE - length))) for length in (height, width))
    return np.resize(field[top : top + height, left : left + width], (height, width))


@lru_cache(maxsize=1)
def _noise_field() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((NOISE_SIDE, NOISE_SIDE), dtype=np.float32)


def shaded(ground: Image, alpha: NDArray[np.uint8], rng: np.random.Generator) -> Image:
    """The ground under the shadow of a product, uint8 (H, W, 3): narrow where it touches, wide where light is kept off.

    alpha: uint8 (H, W), 255 is product. One ground in six has no shadow, as under an overcast sky or a flash.
    """
    if rng.random() < 1 / 6:
        return ground
    height, width = alpha.shape
    size = max(8, width // 4), max(8, height // 4)
    small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    scale = max(size)
    toward, reach = float(rng.uniform(0, 2 * math.pi)), scale * float(rng.uniform(0.01, 0.05))
    away = np.array([[1.0, 0.0, reach * math.cos(toward)], [0.0, 1.0, reach * math.sin(toward)]])
    thrown = cv2.warpAffine(small, away, size, borderMode=cv2.BORDER_REPLICATE)
    thrown = cv2.GaussianBlur(thrown, (0, 0), max(0.6, reach * float(rng.uniform(0.6, 1.4))))
    near = cv2.GaussianBlur(small, (0, 0), scale * float(rng.uniform(0.006, 0.016)))
    dark = float(rng.uniform(0.05, 0.45)) * thrown.astype(np.float32)
    dark += float(rng.uniform(0.05, 0.35)) * near.astype(np.float32)
    light = cv2.resize(1.0 - np.float32(1 / 255) * dark, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(ground, cv2.merge([light, light, light]), dtype=cv2.CV_8U)


def _part(picture: Image, width: int, height: int, rng: np.random.Generator) -> Image:
    rows, columns = picture.shape[:2]
    cover = max(width / columns, height / rows) * float(rng.uniform(1.0, 1.7))
    middle = columns * float(rng.uniform(0.35, 0.65)), rows * float(rng.uniform(0.35, 0.65))
    degrees = float(rng.normal(0.0, 4.0)) + (180.0 if rng.random() < 0.15 else 0.0)
    matrix = moved(middle, (width / 2, height / 2), degrees, cover, bool(rng.random() < 0.5))
    part = seen(picture, matrix, (width, height), interpolation=cv2.INTER_LINEAR)
    return Tint.draw(rng)(part)
