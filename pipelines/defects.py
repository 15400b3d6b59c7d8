"""Defects put on purpose into clean product images, so that training and the sample catalog have exact pairs.

A clean product is overlaid with a mark of opacity 0.15 to 0.5, or turned; the pair's other half stays known.
Everything is a function of the image and a numpy Generator: same seed, same pixels. Images are uint8
(H, W, 3) RGB.
"""

import colorsys
import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: Opacity of a watermark, as the paper's synthesis has it.
MIN_OPACITY, MAX_OPACITY = 0.15, 0.5
#: A watermark leans by at most this many degrees to either side.
MAX_LEAN_DEGREES = 45.0
#: Levels of 255 from which a change counts as visible, and the share of the mark that must be.
VISIBLE_LEVELS, VISIBLE_SHARE = 17, 0.6
#: A pixel with a channel below this is goods or background, not the white of a product picture.
WHITE = 240
#: Marks are drawn this many times larger and reduced: smooth edges.
OVERSAMPLING = 2

FIRST_NAMES = (
    "Luma",
    "Norden",
    "Casa",
    "Velvet",
    "Orchid",
    "Pico",
    "Tara",
    "Brisk",
    "Mellow",
    "Juno",
    "Kite",
    "Alba",
)
LAST_NAMES = (
    "Store",
    "Shop",
    "Outlet",
    "Trading",
    "Studio",
    "Home",
    "Fashion",
    "Market",
    "Deals",
    "& Co",
    "Direct",
)
NOTICES = (
    "SAMPLE",
    "PROOF",
    "COPYRIGHT",
    "DO NOT COPY",
    "PREVIEW",
    "ORIGINAL PHOTO",
    "NO RESALE",
    "STOCK PHOTO",
)
DOMAINS = ("com", "net", "shop", "store", "co", "eu")


def add_watermark(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Overlay one large or many tiled marks, text or a drawn logo, over product and background alike.

    image: uint8 (H, W, 3). Returns a new uint8 (H, W, 3); each pixel moves towards the mark's colour by at
    most MAX_OPACITY. The tone is chosen so that the mark shows, on the goods too: no white for white goods,
    no black for black ones.
    """
    height, width = image.shape[:2]
    opacity = float(rng.uniform(MIN_OPACITY, MAX_OPACITY))
    coverage = _coverage(width, height, rng)
    tone = _visible_tone(image, coverage, opacity, rng)
    marked = Image.fromarray(image)
    alpha = coverage.point([round(level * opacity) for level in range(256)])
    marked.paste(_ink(tone, coverage, rng), (0, 0), alpha)
    return np.array(marked)


def tilt(
    image: np.ndarray,
    rng: np.random.Generator,
    fill: int = 255,
    min_degrees: float = 8.0,
    max_degrees: float = 30.0,
) -> np.ndarray:
    """Turn the picture about its centre by min_degrees to max_degrees, either way; see `rotate`."""
    degrees = float(rng.uniform(min_degrees, max_degrees)) * (1.0 if rng.random() < 0.5 else -1.0)
    return rotate(image, degrees, fill)


def rotate(image: np.ndarray, degrees: float, fill: int = 255) -> np.ndarray:
    """Turn uint8 (H, W, 3) counter-clockwise about its centre, at the picture's own aspect ratio.

    The size stays; what comes from outside has the grey level `fill`. Bicubic, the border included.
    """
    margin = 2  # so that the picture's border is interpolated with the fill instead of cut into steps
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=fill)
    turned = Image.fromarray(padded).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(fill, fill, fill))
    return np.array(turned)[margin:-margin, margin:-margin]


def composite_on_white(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`mask * image + (1 - mask) * white`: uint8 (H, W, 3) and float (H, W) in [0, 1] -> uint8 (H, W, 3)."""
    alpha = np.asarray(mask, dtype=np.float32)[..., None]
    return np.rint(255.0 - alpha * (255.0 - image.astype(np.float32))).astype(np.uint8)


def _coverage(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Where the mark is: an 8-bit grey picture of the photo's size."""
    lean = float(rng.uniform(0.0, MAX_LEAN_DEGREES)) * (1.0 if rng.random() < 0.5 else -1.0)
    if rng.random() < 0.2:
        lean = 0.0  # many sellers do not lean their mark at all
    canvas = Image.new("L", (width, height), 0)
    if rng.random() < 0.5:
        _place_single(canvas, lean, rng)
    else:
        _place_tiles(canvas, lean, rng)
    return canvas


def _place_single(canvas: Image.Image, lean: float, rng: np.random.Generator) -> None:
    """One large mark, usually near the centre, where cutting it off costs the thief the product."""
    width, height = canvas.size
    if rng.random() < 0.62:
        stamp = _text_stamp(_words(rng), int(width * rng.uniform(0.5, 1.0)), rng)
    else:
        stamp = _logo_stamp(int(min(width, height) * rng.uniform(0.35, 0.75)), rng)
    stamp = stamp.rotate(lean, Image.Resampling.BILINEAR, expand=True)
    x = width * float(np.clip(rng.normal(0.5, 0.08), 0.35, 0.65)) - stamp.width / 2
    y = height * float(np.clip(rng.normal(0.5, 0.13), 0.22, 0.78)) - stamp.height / 2
    canvas.paste(255, (round(x), round(y)), stamp)


def _place_tiles(canvas: Image.Image, lean: float, rng: np.random.Generator) -> None:
    """The same small mark in staggered rows over the whole picture."""
    width, height = canvas.size
    if rng.random() < 0.75:
        stamp = _text_stamp(_words(rng), int(width * rng.uniform(0.22, 0.45)), rng)
    else:
        stamp = _logo_stamp(int(min(width, height) * rng.uniform(0.12, 0.24)), rng)
    stamp = stamp.rotate(lean, Image.Resampling.BILINEAR, expand=True)
    step_x = max(8, int(stamp.width * rng.uniform(1.05, 1.6)))
    step_y = max(8, int(stamp.height * rng.uniform(1.1, 2.2)))
    start_x, start_y = int(rng.integers(step_x)), int(rng.integers(step_y))
    for row in range(-1, height // step_y + 2):
        shift = (row % 2) * step_x // 2
        for column in range(-2, width // step_x + 2):
            canvas.paste(255, (column * step_x + shift - start_x, row * step_y - start_y), stamp)


def _words(rng: np.random.Generator) -> str:
    """What a seller would write across a photo; all names are invented."""
    first, last = (names[int(rng.integers(len(names)))] for names in (FIRST_NAMES, LAST_NAMES))
    plain = last.strip("& ").lower()
    choices = (
        f"{first} {last}",
        f"{first} {last}".upper(),
        f"© {first} {last}",
        f"© {first} {int(rng.integers(2015, 2027))}",
        f"www.{first.lower()}{plain}.{DOMAINS[int(rng.integers(len(DOMAINS)))]}",
        f"@{first.lower()}_{plain}",
        NOTICES[int(rng.integers(len(NOTICES)))],
        NOTICES[int(rng.integers(len(NOTICES)))],
    )
    return choices[int(rng.integers(len(choices)))]


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's built-in scalable font: the same outlines on every machine, no system fonts."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType; install the wheel from the package index")
    return font


def _text_stamp(words: str, width: int, rng: np.random.Generator) -> Image.Image:
    """`words` as an 8-bit coverage picture about `width` pixels wide, of varied weight."""
    reference = 64
    left, top, right, bottom = _font(reference).getbbox(words)
    size = max(8, int(reference * width / (right - left)))
    weight = round(size * float(rng.choice([0.0, 0.02, 0.045])))
    font = _font(size)
    left, top, right, bottom = (int(side) for side in font.getbbox(words, stroke_width=weight))
    stamp = Image.new("L", (right - left + 2, bottom - top + 2), 0)
    ImageDraw.Draw(stamp).text((1 - left, 1 - top), words, fill=255, font=font, stroke_width=weight)
    return stamp


def _logo_stamp(side: int, rng: np.random.Generator) -> Image.Image:
    """A drawn logo, `side` pixels square: initials in a ring, a star, a monogram, or a burst of rays."""
    side = max(16, side)
    full = side * OVERSAMPLING
    stamp = Image.new("L", (full, full), 0)
    draw = ImageDraw.Draw(stamp)
    painters = (_ring, _star, _monogram, _burst)
    painters[int(rng.integers(len(painters)))](draw, full, rng)
    return stamp.reduce(OVERSAMPLING)


def _initials(rng: np.random.Generator, count: int) -> str:
    return "".join(chr(ord("A") + int(letter)) for letter in rng.integers(0, 26, count))


def _centred(draw: ImageDraw.ImageDraw, full: int, words: str, size: int, fill: int = 255) -> None:
    draw.text((full / 2, full / 2), words, fill=fill, font=_font(size), anchor="mm")


def _ring(draw: ImageDraw.ImageDraw, full: int, rng: np.random.Generator) -> None:
    thickness = max(2, int(full * rng.uniform(0.03, 0.09)))
    draw.ellipse((1, 1, full - 2, full - 2), outline=255, width=thickness)
    inset = thickness * 2
    draw.ellipse(
        (inset, inset, full - 1 - inset, full - 1 - inset), outline=255, width=max(1, thickness // 3)
    )
    _centred(draw, full, _initials(rng, 2), int(full * 0.38))


def _star(draw: ImageDraw.ImageDraw, full: int, rng: np.random.Generator) -> None:
    points, inner = int(rng.integers(5, 9)), float(rng.uniform(0.38, 0.6))
    draw.polygon(_spikes(full, points, inner), fill=255)
    if rng.random() < 0.6:
        _centred(draw, full, _initials(rng, 1), int(full * 0.32), fill=0)


def _monogram(draw: ImageDraw.ImageDraw, full: int, rng: np.random.Generator) -> None:
    thickness = max(2, int(full * rng.uniform(0.03, 0.07)))
    corner = int(full * rng.uniform(0.05, 0.3))
    draw.rounded_rectangle((1, 1, full - 2, full - 2), corner, outline=255, width=thickness)
    _centred(draw, full, _initials(rng, int(rng.integers(1, 4))), int(full * 0.4))


def _burst(draw: ImageDraw.ImageDraw, full: int, rng: np.random.Generator) -> None:
    draw.polygon(_spikes(full, int(rng.integers(14, 24)), 0.86), fill=255)
    ring = int(full * 0.14)
    draw.ellipse((ring, ring, full - ring, full - ring), outline=0, width=max(2, full // 50))
    _centred(draw, full, str(rng.choice(["NEW", "SALE", "100%", "TOP", "No.1"])), int(full * 0.24), fill=0)


def _spikes(full: int, points: int, inner: float) -> list[tuple[float, float]]:
    """Corners of a star that fills a square of side `full`; `inner` is the notches' radius as a share."""
    radius, corners = full / 2 - 1, []
    for corner in range(2 * points):
        angle = math.pi * corner / points - math.pi / 2
        reach = radius * (inner if corner % 2 else 1.0)
        corners.append((full / 2 + reach * math.cos(angle), full / 2 + reach * math.sin(angle)))
    return corners


def _visible_tone(
    image: np.ndarray, coverage: Image.Image, opacity: float, rng: np.random.Generator
) -> tuple[int, int, int]:
    """A colour in which the mark shows on this picture: the first that is visible, else the most."""
    hue = colorsys.hsv_to_rgb(
        float(rng.random()), float(rng.uniform(0.6, 1.0)), float(rng.uniform(0.35, 0.95))
    )
    grey = int(rng.integers(70, 170))
    coloured = (int(hue[0] * 255), int(hue[1] * 255), int(hue[2] * 255))
    candidates = [(255, 255, 255), (0, 0, 0), (grey, grey, grey), coloured]
    order = rng.permutation(len(candidates))
    stride = max(1, min(image.shape[:2]) // 128)  # a sample of the pixels decides as well
    under = image[::stride, ::stride].astype(np.int16)
    weight = np.asarray(coverage)[::stride, ::stride] > 127
    on_goods = weight & (under.min(axis=-1) < WHITE)
    best, best_share = candidates[1], -1.0
    for index in order:
        tone = candidates[int(index)]
        change = opacity * np.abs(under - np.array(tone, dtype=np.int16)).max(axis=-1)
        share = min(_visible(change, weight), _visible(change, on_goods))
        if share >= VISIBLE_SHARE:
            return tone
        if share > best_share:
            best, best_share = tone, share
    return best


def _visible(change: np.ndarray, where: np.ndarray) -> float:
    """The share of the pixels in `where` that change visibly; 1 where there are none."""
    return float((change[where] >= VISIBLE_LEVELS).mean()) if where.any() else 1.0


def _ink(tone: tuple[int, int, int], coverage: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The mark's colour at each pixel: flat, or darker along one side of every stroke, as if embossed."""
    ink = Image.new("RGB", coverage.size, tone)
    if rng.random() < 0.25:
        offset = 1 + int(min(coverage.size) > 300)
        shade = Image.new("L", coverage.size, 0)
        shade.paste(coverage, (-offset, -offset))
        edge = Image.eval(shade, lambda level: 255 - level)  # strokes' lower right rim
        dark = tuple(channel // 4 for channel in tone)
        ink.paste(dark, (0, 0), edge)
    return ink


def known_syntheses() -> tuple[str, ...]:
    """Stand-in."""
    return ("non_white_background", "watermark", "wrong_angle")


def synthesis(name: str):  # type: ignore[no-untyped-def]
    """Stand-in."""
    from model.errors import ConfigurationError

    found = {"watermark": add_watermark, "wrong_angle": tilt, "non_white_background": add_watermark}
    if name not in found:
        raise ConfigurationError(f"unknown synthesis {name!r}; known are {', '.join(found)}")
    return found[name]
