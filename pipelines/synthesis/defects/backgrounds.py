"""Backgrounds for products in training: those of other photos, drawn surfaces and plain ones; and shadows on them."""

import colorsys
import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.contracts.hashing import hash_number
from pipelines.synthesis.defects.colours import Tint
from pipelines.synthesis.defects.views import moved, seen
from pipelines.synthesis.products.backgrounds import flat_background, standing_background

#: Longer side of the kept pictures, pixels: enough for a training at 256, a quarter of a megabyte each.
SIDE = 320
#: Photos whose product takes more than this share show too little background.
MOST_PRODUCT = 0.7
#: Width around the mask that counts as product: soft edges and contact shadows, as a share of the longer side.
RIM = 0.025
#: Structures larger than 2 ** (FINEST + 1) pixels are tones, smaller ones are texture.
FINEST = 3
#: Maximum number of parts that fill a hole, and the least share of it that each must fill.
FILLINGS, LEAST_COVERED = 4, 0.03
#: Number of pixels around a hole by which a part is aligned.
COMPARED = 800
#: Factor by which the copy for comparing parts is smaller, and width of blended seams in pixels.
SEARCHED, SEAM = 8, 2.0
#: Steps in each direction by which parts are moved, up to half of the picture.
MOVES = 2
#: Number of drawn surfaces per process, and their side in pixels.
DRAWN, DRAWN_SIDE = 192, 288
#: Side of the noise field for plain backgrounds.
NOISE_SIDE = 768
#: Shares of photos' backgrounds and of drawn surfaces; the others are plain.
PHOTOS_SHARE, DRAWN_SHARE = 0.6, 0.25

Image = NDArray[np.uint8]


class Backgrounds:
    """A set of photos' backgrounds, uint8 (h, w, 3); without any, surfaces are drawn or plain."""

    def __init__(self, pictures: tuple[Image, ...] = ()) -> None:
        self.pictures = pictures

    @classmethod
    def from_photos(
        cls, photos: Iterable[tuple[Image, NDArray[np.uint8]]], side: int = SIDE
    ) -> "Backgrounds":
        """Return backgrounds of photos, uint8 (H, W, 3), with masks, uint8 (H, W), 255 product. Products are filled in.

        Photos that are nearly all product are left out. side: longer side of the kept pictures, pixels.
        """
        return cls(
            tuple(kept for kept in (background_of(*pair, side) for pair in photos) if kept is not None)
        )

    def draw(self, width: int, height: int, rng: np.random.Generator) -> Image:
        """Return a background, uint8 (height, width, 3): a part of one, turned, mirrored, in another light."""
        kind = float(rng.random())
        if self.pictures and kind < PHOTOS_SHARE:
            return _part(self.pictures[int(rng.integers(len(self.pictures)))], width, height, rng)
        if kind < PHOTOS_SHARE + DRAWN_SHARE:
            return _part(drawn_background(int(rng.integers(DRAWN))), width, height, rng)
        return plain_background(width, height, rng)


def background_of(photo: Image, mask: NDArray[np.uint8], side: int = SIDE) -> Image | None:
    """Return the photo's background with its product filled in: uint8 (h, w, 3), or None if hardly any is visible.

    Tones come from the background nearby. Texture comes from another part of it, mirrored or not: the one that best
    continues the surroundings of the product.
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
        arrived = cv2.warpAffine(free, shift, size, flags=cv2.INTER_NEAREST)
        feathered = (
            cv2.GaussianBlur(known, (0, 0), SEAM)[..., None] * known[..., None]
        )  # no visible cut at the rim
        texture = np.where(arrived[..., None] > 0, brought + feathered * (texture - brought), texture)
        known = np.maximum(known, arrived)
    return np.clip(np.rint(tone + texture), 0, 255).astype(np.uint8)


def _best_shift(
    texture: NDArray[np.float32], known: NDArray[np.float32], free: NDArray[np.float32]
) -> NDArray[np.float64] | None:
    """Return the map (2, 3) that moves known background into the hole and fills most of it with the best fit around it.

    texture: float32 (H, W, 3), without slow changes of tone. known: float32 (H, W), 1 where there is texture by now.
    free: float32 (H, W), 1 where there was from the beginning. Returns None if no map fills enough.
    """
    height, width = known.shape
    small = max(4, width // SEARCHED), max(4, height // SEARCHED)
    pixels_small = cv2.resize(texture, small, interpolation=cv2.INTER_AREA)
    has_texture = cv2.resize(free, small, interpolation=cv2.INTER_NEAREST).ravel()
    hole = 1.0 - cv2.resize(known, small, interpolation=cv2.INTER_NEAREST)
    ring = (cv2.dilate(hole, np.ones((5, 5), np.uint8)) * (1.0 - hole)).ravel()
    maps, sources, inside = _shifts(*small)
    available = has_texture[sources] * inside
    covered = available @ hole.ravel() / max(float(hole.sum()), 1.0)
    flat = pixels_small.reshape(-1, 3)
    difference = np.abs(flat[sources] - flat).sum(axis=-1) / 3
    compared = available * ring
    misfit = (difference * compared).sum(axis=1) / np.maximum(compared.sum(axis=1), 1.0)
    value = np.where(
        covered < LEAST_COVERED, 0.0, covered / (1.0 + misfit / (np.abs(pixels_small).mean() + 1.0))
    )
    best = int(value.argmax())
    if value[best] == 0:
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
    """Return the map moved by up to SEARCHED pixels, so that stripes and tiles are continued; see `_best_shift`."""
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
            if inside.sum() * 4 < len(y):  # too few pixels to compare
                continue
            misfit = float(np.abs(texture[from_y[inside], from_x[inside]] - here[inside]).mean())
            if misfit < least:
                least = misfit
                best = np.array([[flip_x, 0, to_x + right], [0, flip_y, to_y + down]], np.float64)
    return best


@lru_cache(maxsize=32)
def _shifts(width: int, height: int) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float32]]:
    """Return maps (N, 2, 3) that move a picture by shares of its sides, mirrored or not, and the source of each pixel.

    The source is an index (N, height * width); the last array is 1 where it is inside the picture.
    """
    maps, sources, inside = [], [], []
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
        sources.append(np.where(within, from_y * width + from_x, 0).ravel())
        inside.append(within.ravel())
    return np.array(maps, np.float64), np.array(sources, np.int32), np.array(inside, np.float32)


def _tone(levels: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return slow changes of tone, continued into unknown parts as averages over ever larger surroundings."""
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
def drawn_background(number: int) -> Image:
    """Return surface `number` of DRAWN, uint8 (DRAWN_SIDE, DRAWN_SIDE, 3), which depends on the number only."""
    rng = np.random.default_rng(hash_number("drawn ground", number))
    if number % 5:
        surface = flat_background(rng, DRAWN_SIDE, DRAWN_SIDE)
    else:
        surface = standing_background(rng, DRAWN_SIDE, DRAWN_SIDE, float(rng.uniform(0.6, 0.9)))
    return np.rint(np.clip(surface, 0, 1) * 255).astype(np.uint8)


def plain_background(width: int, height: int, rng: np.random.Generator) -> Image:
    """Return one colour, or a gradient between two shades of it, with a little noise: uint8 (height, width, 3).

    One in five is nearly white, like paper in the evening: it must be whitened as well, and is easily overlooked.
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
    # A gradient between four corners, enlarged, because OpenCV's interpolation is the fastest arithmetic available.
    x, y = np.array([[-0.5, 0.5]], np.float32), np.array([[-0.5], [0.5]], np.float32)
    share = np.clip(0.5 + x * math.cos(toward) + y * math.sin(toward), 0, 1).astype(np.float32)[..., None]
    picture = cv2.resize(
        corners[0] + share * (corners[1] - corners[0]), (width, height), interpolation=cv2.INTER_LINEAR
    )
    if rng.random() < 0.7:
        picture += _noise(width, height, rng)[..., None] * np.float32(rng.uniform(0.5, 3.0))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _noise(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a part of NOISE_SIDE squared fixed normal numbers, because drawing new ones takes longer."""
    field = _noise_field()
    top, left = (int(rng.integers(max(1, NOISE_SIDE - length))) for length in (height, width))
    return np.resize(field[top : top + height, left : left + width], (height, width))


@lru_cache(maxsize=1)
def _noise_field() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((NOISE_SIDE, NOISE_SIDE), dtype=np.float32)


def shaded(background: Image, alpha: NDArray[np.uint8], rng: np.random.Generator) -> Image:
    """Return the background with a product's shadow, uint8 (H, W, 3): narrow at contacts, wide where light is blocked.

    alpha: uint8 (H, W), 255 is product. One background in six has no shadow, as under an overcast sky or a flash.
    """
    if rng.random() < 1 / 6:
        return background
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
    return cv2.multiply(background, cv2.merge([light, light, light]), dtype=cv2.CV_8U)


def _part(picture: Image, width: int, height: int, rng: np.random.Generator) -> Image:
    rows, columns = picture.shape[:2]
    cover = max(width / columns, height / rows) * float(rng.uniform(1.0, 1.7))
    middle = columns * float(rng.uniform(0.35, 0.65)), rows * float(rng.uniform(0.35, 0.65))
    degrees = float(rng.normal(0.0, 4.0)) + (180.0 if rng.random() < 0.15 else 0.0)
    matrix = moved(middle, (width / 2, height / 2), degrees, cover, bool(rng.random() < 0.5))
    part = seen(picture, matrix, (width, height), interpolation=cv2.INTER_LINEAR)
    return Tint.draw(rng)(part)
