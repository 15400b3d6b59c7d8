"""The look of products' surfaces: palettes, woven patterns, prints, folds and rounded light."""

import colorsys
import math
from collections.abc import Callable, Sequence

import numpy as np

from pipelines.synthesis.products.canvas import Canvas, Region
from pipelines.synthesis.products.noise import resized, slope_light, smooth_noise, softened
from pipelines.synthesis.products.outlines import ellipse, rounded, spline

#: A pattern returns the colour (h, w, 3) at product coordinates x and y.
Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Return float32 (3,) RGB in [0, 1]; hue wraps round."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), dtype=np.float32)


def fabric_colour(rng: np.random.Generator) -> np.ndarray:
    """Return a common colour of products: many neutrals, some muted, some strong."""
    kind = rng.random()
    # Black, greys, off-white. An almost white product on white is a case that must occur.
    if kind < 0.3:
        return hsv(
            rng.random(), rng.uniform(0.0, 0.08), float(rng.choice([0.13, 0.2, 0.35, 0.55, 0.8, 0.93]))
        )
    if kind < 0.65:
        return hsv(rng.random(), rng.uniform(0.25, 0.55), rng.uniform(0.3, 0.85))
    return hsv(rng.random(), rng.uniform(0.55, 0.86), rng.uniform(0.4, 0.82))


def accent_to(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a colour that stands out from `colour`."""
    dark = float(colour.mean()) < 0.45
    if rng.random() < 0.4:
        return hsv(0.1, 0.05, rng.uniform(0.85, 0.97)) if dark else hsv(0.6, 0.2, rng.uniform(0.08, 0.25))
    hue = colorsys.rgb_to_hsv(*(float(channel) for channel in colour))[0] + rng.uniform(0.25, 0.75)
    return hsv(hue, rng.uniform(0.5, 0.9), rng.uniform(0.7, 0.95) if dark else rng.uniform(0.25, 0.6))


def wave(phase: np.ndarray, share: float, sharpness: float) -> np.ndarray:
    """Return a soft square wave of period 1 that is on for `share` of it: float32 in [0, 1]."""
    distance = np.abs(phase - np.floor(phase) - 0.5)
    return np.asarray(
        np.clip((np.float32(share / 2) - distance) * np.float32(sharpness) + 0.5, 0.0, 1.0), dtype=np.float32
    )


def plain(colour: np.ndarray) -> Pattern:
    """Return a pattern of one colour."""
    return lambda x, y: np.broadcast_to(colour, (*x.shape, 3))


def stripes(
    first: np.ndarray, second: np.ndarray, period: float, share: float, radians: float = 0.0
) -> Pattern:
    """Return parallel stripes, horizontal for 0 radians."""
    cosine, sine = math.cos(radians), math.sin(radians)

    def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        on = wave((y * cosine + x * sine) / period, share, 100 * period)[..., None]
        return first + on * (second - first)

    return pattern


def checks(first: np.ndarray, second: np.ndarray, period: float, line: np.ndarray) -> Pattern:
    """Return a woven check: two sets of half-covering bands that cross, with a thin line of a third colour."""

    def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        bands = wave(x / period, 0.5, 90 * period) + wave(y / period, 0.5, 90 * period)
        thin = np.maximum(
            wave(x / period + 0.25, 0.08, 90 * period), wave(y / period + 0.25, 0.08, 90 * period)
        )
        woven = first + bands[..., None] * np.float32(0.5) * (second - first)
        return woven + thin[..., None] * np.float32(0.6) * (line - woven)

    return pattern


def dots(first: np.ndarray, second: np.ndarray, period: float, radius: float) -> Pattern:
    """Return dots of `radius` periods in staggered rows."""

    def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        row = np.floor(y / period)
        along = x / period + 0.5 * (row % 2)
        distance = np.hypot(along - np.floor(along) - 0.5, y / period - row - 0.5)
        on = np.clip((radius - distance) * np.float32(60 * period) + 0.5, 0.0, 1.0)[..., None]
        return first + on * (second - first)

    return pattern


def fabric(rng: np.random.Generator, base: np.ndarray, size: float = 1.0) -> Pattern:
    """Return a plain, striped, checked or dotted cloth on `base`; `size` scales the pattern."""
    kind = rng.random()
    other = accent_to(base, rng)
    if kind < 0.5:
        return plain(base)
    if kind < 0.7:
        return stripes(base, other, size * rng.uniform(0.1, 0.32), rng.uniform(0.2, 0.5))
    if kind < 0.76:
        return stripes(base, other, size * rng.uniform(0.06, 0.16), rng.uniform(0.15, 0.4), math.pi / 2)
    if kind < 0.9:
        return checks(base, base * 0.4 + other * 0.6, size * rng.uniform(0.14, 0.34), accent_to(other, rng))
    return dots(base, other, size * rng.uniform(0.09, 0.2), rng.uniform(0.18, 0.32))


def rounded_light(region: Region, radius: float, light: tuple[float, float], strength: float) -> np.ndarray:
    """Return light on a part that curves away towards its outline within `radius` pixels: float32 (h, w) about 1."""
    padded = np.pad(region.coverage, 2)
    dome = softened(padded, max(2.0, radius))[2:-2, 2:-2]
    lean = slope_light(dome, light) * np.float32(radius * strength)
    return np.clip(1.0 + lean, 0.35, 1.5) * (
        np.float32(0.84) + np.float32(0.16) * np.clip(2 * dome - 1, 0, 1)
    )


def creases(region: Region, lines: Sequence[tuple[float, float, float, float, float, float]]) -> np.ndarray:
    """Return folds of cloth: each line (x0, y0, x1, y1, width, depth) has a dark and a light side.

    The result is float32 (h, w) about 0, to be added to the light. It is computed at half size, because folds are soft.
    """
    x, y = region.x[::2, ::2], region.y[::2, ::2]
    total = np.zeros(x.shape, dtype=np.float32)
    for x0, y0, x1, y1, width, depth in lines:
        length = math.hypot(x1 - x0, y1 - y0) + 1e-6
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        along = ((x - x0) * np.float32(ux) + (y - y0) * np.float32(uy)) / np.float32(length)
        bow = np.float32(0.12 * length) * along * (1 - along)  # folds are never quite straight
        across = ((y - y0) * np.float32(ux) - (x - x0) * np.float32(uy) + bow) / np.float32(width)
        ends = np.clip(along * 3, 0, 1) * np.clip((1 - along) * 3, 0, 1)
        total += np.float32(depth) * across * np.exp(-across * across) * ends
    return resized(total, *region.coverage.shape)


def weave(rng: np.random.Generator, region: Region, amount: float) -> np.ndarray:
    """Return the unevenness of cloth, cloudy shade and threads: float32 (h, w) about 0."""
    rng = rng.spawn(1)[0]  # so that further draws from `rng` do not depend on the region's size
    height, width = region.coverage.shape
    clouds = smooth_noise(rng, height, width, 40, 30) * np.float32(0.035)
    threads = rng.standard_normal((height, width), dtype=np.float32) * np.float32(amount)
    return clouds + threads


def print_motif(
    canvas: Canvas,
    whole: Region,
    centre: tuple[float, float],
    size: float,
    rng: np.random.Generator,
    base: np.ndarray,
) -> None:
    """Draw a print on a product: rings, a sunset, a flower, a star or blocks, about `size` units wide."""
    ink, other = accent_to(base, rng), accent_to(base, rng)
    motifs = (_sunset, _flower, _star, _blocks, _rings)
    for points, shade in motifs[int(rng.integers(len(motifs)))](centre, size / 2, rng):
        colour = ink if shade == 0 else other if shade == 1 else base
        canvas.dye(canvas.within(canvas.fill(points), whole), colour, 0.96, opacity=0.94)


Motif = list[tuple[np.ndarray, int]]


def _sunset(centre: tuple[float, float], reach: float, rng: np.random.Generator) -> Motif:
    x, y = centre
    hills = [(x - reach, y + reach), (x - reach, y + 0.3 * reach)]
    ridge = spline(
        [
            (x - reach, y + 0.3 * reach),
            (x - 0.4 * reach, y - 0.1 * reach),
            (x + 0.1 * reach, y + 0.4 * reach),
            (x + 0.6 * reach, y),
            (x + reach, y + 0.35 * reach),
        ]
    )
    ground = np.vstack([hills, ridge, [(x + reach, y + reach)]])
    sun = ellipse((x + reach * rng.uniform(-0.3, 0.3), y - 0.1 * reach), 0.45 * reach, 0.45 * reach)
    frame = rounded(
        [(x - reach, y - reach), (x + reach, y - reach), (x + reach, y + reach), (x - reach, y + reach)],
        0.15 * reach,
    )
    return [(frame, 0), (sun, 2), (ground, 1)]


def _flower(centre: tuple[float, float], reach: float, rng: np.random.Generator) -> Motif:
    petals = int(rng.integers(5, 9))
    parts: Motif = []
    for petal in range(petals):
        angle = 2 * math.pi * petal / petals
        middle = (centre[0] + 0.58 * reach * math.cos(angle), centre[1] + 0.58 * reach * math.sin(angle))
        parts.append((ellipse(middle, 0.36 * reach, 0.36 * reach), 0))
    return [*parts, (ellipse(centre, 0.34 * reach, 0.34 * reach), 1)]


def _star(centre: tuple[float, float], reach: float, rng: np.random.Generator) -> Motif:
    corners = []
    for corner in range(10):
        angle, far = math.pi * corner / 5 - math.pi / 2, reach * (0.42 if corner % 2 else 1.0)
        corners.append((centre[0] + far * math.cos(angle), centre[1] + far * math.sin(angle)))
    return [(ellipse(centre, reach * 1.05, reach * 1.05), 1), (np.array(corners) * 1.0, 0)]


def _blocks(centre: tuple[float, float], reach: float, rng: np.random.Generator) -> Motif:
    parts: Motif = []
    bars = int(rng.integers(3, 6))
    for bar in range(bars):
        y = centre[1] + reach * (2 * (bar + 0.5) / bars - 1) * 0.8
        half, thick = reach * rng.uniform(0.45, 1.0), 0.55 * reach / bars
        box = [
            (centre[0] - half, y - thick),
            (centre[0] + half, y - thick),
            (centre[0] + half, y + thick),
            (centre[0] - half, y + thick),
        ]
        parts.append((rounded(box, thick * 0.6), bar % 2))
    return parts


def _rings(centre: tuple[float, float], reach: float, rng: np.random.Generator) -> Motif:
    return [
        (ellipse(centre, reach * share, reach * share), shade)
        for share, shade in ((1.0, 0), (0.78, 2), (0.56, 1), (0.3, 2))
    ]
