"""Marks that no training draws: other typefaces, layouts, sizes, angles and inks than in pipelines/synthesis/defects.

The typefaces are Computer Modern's, which matplotlib ships beside those used in training; `faces` takes others from a
folder. Lettering goes along arcs, upright or steeper than 50 degrees, scattered at any angle, or in single large
letters; inks are pale, or change from one colour to another.
"""

import colorsys
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFont

WORDS = (
    "Atelier Nord",
    "Maison Bleu",
    "photo by Ilse",
    "Rua Verde 48",
    "keep off",
    "Nr. 7731",
    "Foto Quist",
    "hands off",
)
MIN_OPACITY, MAX_OPACITY = 0.22, 0.55
#: Median change of covered pixels, in levels of 255, below which another ink is tried; and the maximum of tries.
VISIBLE_LEVELS, ATTEMPTS = 18.0, 8

Layout = Callable[[Image.Image, Sequence[str], np.random.Generator], None]


def faces(folder: Path | None = None) -> tuple[str, ...]:
    """Return paths of typefaces: all .ttf and .otf in `folder`, or Computer Modern's. Raises ValueError without any."""
    if folder is None:
        home = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        return tuple(str(home / f"{name}.ttf") for name in ("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10"))
    paths = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf"))
    if not paths:
        raise ValueError(f"{folder} has no .ttf or .otf file")
    return tuple(paths)


def add_foreign_mark(
    image: NDArray[np.uint8], typefaces: Sequence[str], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Put a mark over a picture: uint8 (H,W,3) -> a new uint8 (H,W,3)."""
    height, width = image.shape[:2]
    canvas = Image.new("L", (width, height), 0)
    layouts: tuple[Layout, ...] = (_arc, _seal, _steep, _scattered, _letters)
    layouts[int(rng.integers(len(layouts)))](canvas, typefaces, rng)
    share = np.asarray(canvas, np.float32)[..., None] / 255 * float(rng.uniform(MIN_OPACITY, MAX_OPACITY))
    covered = np.asarray(canvas) > 127
    marked = image
    for _ in range(ATTEMPTS):
        marked = np.rint((1 - share) * image + share * _ink(height, width, rng)).astype(np.uint8)
        change = np.abs(marked.astype(int) - image).max(axis=2)[covered]
        if change.size and np.median(change) >= VISIBLE_LEVELS:
            break
    return marked


def _ink(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return float32 (H,W,3) in 0..255: one tone all over, or one that changes into another from side to side."""
    first, second = _tone(rng), _tone(rng)
    if rng.random() < 0.4:
        second = first
    angle = float(rng.uniform(0, 2 * math.pi))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    along = (x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle) + 0.5
    return first + np.clip(along, 0, 1)[..., None].astype(np.float32) * (second - first)


def _tone(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a pale, deep or brownish tone: less saturated than in training, and dark tones that are not grey."""
    hue = float(rng.random())
    if rng.random() < 0.5:
        colour = colorsys.hsv_to_rgb(hue, float(rng.uniform(0.12, 0.4)), float(rng.uniform(0.75, 1.0)))
    else:
        colour = colorsys.hsv_to_rgb(hue, float(rng.uniform(0.2, 0.45)), float(rng.uniform(0.1, 0.45)))
    return np.array(colour, np.float32) * 255


@lru_cache(maxsize=512)
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(face, size)


def _words(face: str, words: str, size: float) -> Image.Image:
    """Return letters `size` pixels high as coverage (mode L), cut to their extent."""
    letters = _font(face, max(8, round(size)))
    left, top, right, bottom = (round(side) for side in letters.getbbox(words))
    stamp = Image.new("L", (max(1, right - left) + 2, max(1, bottom - top) + 2), 0)
    ImageDraw.Draw(stamp).text((1 - left, 1 - top), words, fill=255, font=letters)
    return stamp


def _put(canvas: Image.Image, stamp: Image.Image, x: float, y: float, degrees: float) -> None:
    """Draw a stamp on the canvas with its middle at (x, y), turned counter-clockwise."""
    turned = stamp.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    layer = Image.new("L", canvas.size, 0)
    layer.paste(turned, (round(x - turned.width / 2), round(y - turned.height / 2)))
    canvas.paste(ImageChops.lighter(canvas, layer))


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _round(
    canvas: Image.Image,
    face: str,
    words: str,
    middle: tuple[float, float],
    radius: float,
    size: float,
    start: float,
) -> None:
    """Draw words along a circle, from `start` (radians, clockwise from the right)."""
    angle = start
    for letter in words:
        stamp = _words(face, letter, size)
        step = (stamp.width if letter != " " else size * 0.35) / radius
        angle += step / 2
        x, y = middle[0] + radius * math.cos(angle), middle[1] + radius * math.sin(angle)
        if letter != " ":
            _put(canvas, stamp, x, y, -math.degrees(angle) - 90)
        angle += step / 2 + 0.08 * size / radius


def _arc(canvas: Image.Image, typefaces: Sequence[str], rng: np.random.Generator) -> None:
    """Draw words along an arc across the middle."""
    side = min(canvas.size)
    radius, size = side * float(rng.uniform(0.28, 0.42)), side * float(rng.uniform(0.1, 0.17))
    middle = canvas.width * float(rng.uniform(0.4, 0.6)), canvas.height * float(rng.uniform(0.42, 0.62))
    _round(
        canvas, _pick(typefaces, rng), _pick(WORDS, rng), middle, radius, size, float(rng.uniform(-3.6, -2.4))
    )


def _seal(canvas: Image.Image, typefaces: Sequence[str], rng: np.random.Generator) -> None:
    """Draw a ring of words around a large letter, between two circles."""
    side, face, words = min(canvas.size), _pick(typefaces, rng), _pick(WORDS, rng)
    radius = side * float(rng.uniform(0.18, 0.34))
    x, y = canvas.width * float(rng.uniform(0.3, 0.7)), canvas.height * float(rng.uniform(0.3, 0.7))
    draw = ImageDraw.Draw(canvas)
    for reach in (1.28, 0.78):
        box = (x - reach * radius, y - reach * radius, x + reach * radius, y + reach * radius)
        draw.ellipse(box, outline=255, width=max(1, round(radius / 28)))
    _round(canvas, face, words, (x, y), radius, radius * 0.3, float(rng.uniform(-math.pi, math.pi)))
    _put(canvas, _words(face, words[0].upper(), radius), x, y, float(rng.uniform(-30, 30)))


def _steep(canvas: Image.Image, typefaces: Sequence[str], rng: np.random.Generator) -> None:
    """Draw one or two lines that go up or down at 50 to 90 degrees."""
    size = min(canvas.size) * float(rng.uniform(0.1, 0.2))
    degrees = float(rng.uniform(50, 90)) * (1 if rng.random() < 0.5 else -1)
    face = _pick(typefaces, rng)
    for share in rng.permutation([0.3, 0.55, 0.75])[: int(rng.integers(1, 3))]:
        x, y = canvas.width * float(share), canvas.height * float(rng.uniform(0.4, 0.6))
        _put(canvas, _words(face, _pick(WORDS, rng), size), x, y, degrees)


def _scattered(canvas: Image.Image, typefaces: Sequence[str], rng: np.random.Generator) -> None:
    """Draw the same words at many positions, each with its own angle and size."""
    side, face, words = min(canvas.size), _pick(typefaces, rng), _pick(WORDS, rng)
    for _ in range(int(rng.integers(8, 17))):
        stamp = _words(face, words, side * float(rng.uniform(0.05, 0.1)))
        x, y = canvas.width * float(rng.random()), canvas.height * float(rng.random())
        _put(canvas, stamp, x, y, float(rng.uniform(-180, 180)))


def _letters(canvas: Image.Image, typefaces: Sequence[str], rng: np.random.Generator) -> None:
    """Draw two or three letters, each a quarter to a half of the picture, on a slope."""
    side, face = min(canvas.size), _pick(typefaces, rng)
    count = int(rng.integers(2, 4))
    for number in range(count):
        letter = chr(ord("A") + int(rng.integers(26)))
        x = canvas.width * (number + 1) / (count + 1)
        y = canvas.height * float(rng.uniform(0.35, 0.65))
        _put(
            canvas,
            _words(face, letter, side * float(rng.uniform(0.25, 0.5))),
            x,
            y,
            float(rng.uniform(-60, 60)),
        )
