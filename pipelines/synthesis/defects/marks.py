"""Sellers' marks as pictures of coverage (mode L, 0 to 255): lettering, drawn logos, and a logo above its name."""

import math

import numpy as np
from PIL import Image, ImageDraw

from pipelines.synthesis.defects.lettering import (
    face_for,
    fitting_size,
    font,
    initials,
    pick,
    shop_words,
    text_stamp,
)

#: Logos are drawn this many times larger and then reduced, for smooth edges.
OVERSAMPLING = 2
#: Smallest side of a logo, pixels.
MIN_LOGO = 12
LOGO_WORDS = ("NEW", "SALE", "100%", "TOP", "No.1")


def lettering_mark(width: float, rng: np.random.Generator) -> Image.Image:
    """Return a shop's name, address or notice about `width` pixels wide: thin, bold or hollow, sometimes underlined."""
    words = shop_words(rng)
    face = face_for(words, rng)
    size = fitting_size(words, face, width, math.inf)
    hollow = bool(rng.random() < 0.12) and size >= 18  # smaller letters close up
    stamp = text_stamp(words, face, size, float(rng.choice([0.0, 0.02, 0.045])), hollow)
    return _ruled(stamp, rng) if rng.random() < 0.15 else stamp


def logo_mark(side: float, rng: np.random.Generator) -> Image.Image:
    """Return a drawn logo about `side` pixels square: initials in a ring, a star, a monogram, rays, a camera."""
    side = max(MIN_LOGO, int(side))
    full = side * OVERSAMPLING
    stamp = Image.new("L", (full, full), 0)
    painters = (_ring, _star, _monogram, _burst, _camera)
    painters[int(rng.integers(len(painters)))](ImageDraw.Draw(stamp), full, rng)
    return stamp.reduce(OVERSAMPLING)


def logo_with_name(width: float, rng: np.random.Generator) -> Image.Image:
    """Return a logo above the shop's name, about `width` pixels wide."""
    name = lettering_mark(width, rng)
    logo = logo_mark(name.width * rng.uniform(0.3, 0.55), rng)
    gap = max(1, round(0.25 * name.height))
    stamp = Image.new("L", (max(name.width, logo.width), logo.height + gap + name.height), 0)
    stamp.paste(logo, ((stamp.width - logo.width) // 2, 0))
    stamp.paste(name, ((stamp.width - name.width) // 2, logo.height + gap))
    return stamp


def star_points(full: float, points: int, inner: float) -> list[tuple[float, float]]:
    """Return the corners of a star that fills a square of side `full`; `inner` is the notches' radius as a share."""
    radius, corners = full / 2 - 1, []
    for corner in range(2 * points):
        angle = math.pi * corner / points - math.pi / 2
        reach = radius * (inner if corner % 2 else 1.0)
        corners.append((full / 2 + reach * math.cos(angle), full / 2 + reach * math.sin(angle)))
    return corners


def _ruled(stamp: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Put lettering between two lines, or in a box."""
    pad, thick = max(2, stamp.height // 3), max(1, stamp.height // 14)
    ruled = Image.new("L", (stamp.width + 2 * pad, stamp.height + 2 * pad), 0)
    ruled.paste(stamp, (pad, pad))
    draw = ImageDraw.Draw(ruled)
    if rng.random() < 0.5:
        draw.rectangle((0, 0, ruled.width - 1, ruled.height - 1), outline=255, width=thick)
    else:
        draw.rectangle((0, 0, ruled.width, thick - 1), fill=255)
        draw.rectangle((0, ruled.height - thick, ruled.width, ruled.height), fill=255)
    return ruled


def _centred(draw: ImageDraw.ImageDraw, full: int, words: str, size: int, fill: int = 255) -> None:
    draw.text((full / 2, full / 2), words, fill=fill, font=font("", max(4, size)), anchor="mm")


def _ring(draw: ImageDraw.ImageDraw, full: int, rng: np.random.Generator) -> None:
    thickness = max(2, int(full * rng.uniform(0.03, 0.09)))
    draw.ellipse((1, 1, full - 2, full - 2), outline=255, width=thickness)
    inset = thickness * 2
    far = full - 1 - inset
    draw.ellipse((inset, inset, far, far), outline=255, width=max(1, thickness // 3))
    _centred(draw, full, initials(rng, 2), int(full * 0.38))


def _star(draw: ImageDraw.ImageDraw, full: int, rng: np.random.Generator) -> None:
    points, inner = int(rng.integers(5, 9)), float(rng.uniform(0.38, 0.6))
    draw.polygon(star_points(full, points, inner), fill=255)
    if rng.random() < 0.6:
        _centred(draw, full, initials(rng, 1), int(full * 0.32), fill=0)


def _monogram(draw: ImageDraw.ImageDraw, full: int, rng: np.random.Generator) -> None:
    thickness = max(2, int(full * rng.uniform(0.03, 0.07)))
    corner = int(full * rng.uniform(0.05, 0.3))
    draw.rounded_rectangle((1, 1, full - 2, full - 2), corner, outline=255, width=thickness)
    _centred(draw, full, initials(rng, int(rng.integers(1, 4))), int(full * 0.4))


def _burst(draw: ImageDraw.ImageDraw, full: int, rng: np.random.Generator) -> None:
    draw.polygon(star_points(full, int(rng.integers(14, 24)), 0.86), fill=255)
    ring = int(full * 0.14)
    draw.ellipse((ring, ring, full - ring, full - ring), outline=0, width=max(2, full // 50))
    _centred(draw, full, pick(rng, LOGO_WORDS), int(full * 0.24), fill=0)


def _camera(draw: ImageDraw.ImageDraw, full: int, rng: np.random.Generator) -> None:
    """Draw a camera, as photographers and stock sites do."""
    top, bottom, corner = full * 0.28, full * 0.86, int(full * rng.uniform(0.04, 0.14))
    draw.rounded_rectangle((1, top, full - 2, bottom), corner, fill=255)
    draw.rectangle((full * 0.34, full * 0.16, full * 0.66, top + 1), fill=255)
    middle = (top + bottom) / 2
    for radius, level in ((0.22, 0), (0.16, 255), (0.09, 0)):
        reach = full * radius
        draw.ellipse((full / 2 - reach, middle - reach, full / 2 + reach, middle + reach), fill=level)
