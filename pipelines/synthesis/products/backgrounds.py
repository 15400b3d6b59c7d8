"""Surfaces on which sellers photograph products: floors, carpets, sheets, walls. float32 (H, W, 3), about [0, 1]."""

import math

import numpy as np
from PIL import Image

from pipelines.synthesis.products.noise import cloudy, resized, slope_light, smooth_noise
from pipelines.synthesis.products.surfaces import hsv, wave


def flat_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a surface seen from above, for products that lie on it."""
    makers = (wood, wood, carpet, bedsheet, bedsheet, tiles, plaster)
    return makers[int(rng.integers(len(makers)))](rng, height, width)


def standing_background(rng: np.random.Generator, height: int, width: int, foot: float) -> np.ndarray:
    """Return a wall behind a table or floor for standing products.

    foot: share of the height at which the product stands; the table's far edge is above it.
    """
    if rng.random() < 0.3:
        return flat_background(rng, height, width)
    edge = int(height * (foot - rng.uniform(0.1, 0.3)))
    edge = min(max(edge, height // 6), height - 8)
    wall = (plaster if rng.random() < 0.75 else tiles)(rng, height, width)
    below = height - edge
    surface = (wood, wood, bedsheet, plaster)[int(rng.integers(4))](rng, below * 2, width)
    nearer = np.asarray(
        Image.fromarray((np.clip(surface, 0, 1) * 255).astype(np.uint8)).resize(
            (width, below), Image.Resampling.BILINEAR
        )
    )
    picture = wall
    picture[edge:] = nearer.astype(np.float32) / 255.0
    picture[edge:] *= np.linspace(0.78, 1.05, below, dtype=np.float32)[:, None, None]
    fade = np.exp(-np.abs(np.arange(height, dtype=np.float32) - edge) / (0.03 * height))
    picture *= (1.0 - np.float32(rng.uniform(0.1, 0.35)) * fade)[:, None, None]
    return picture


def _turned_grid(
    rng: np.random.Generator, height: int, width: int, square: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels along and across a floor that is laid upright, across, or slightly askew: float32 (H, W)."""
    angle = (0.0 if rng.random() < 0.5 else math.pi / 2) + (
        rng.normal(0, 0.06) if rng.random() < 0.6 else rng.uniform(-0.8, 0.8)
    )
    if square and rng.random() < 0.3:
        angle = math.pi / 4
    x = np.arange(width, dtype=np.float32)[None, :] - width / 2
    y = np.arange(height, dtype=np.float32)[:, None] - height / 2
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return x * cosine + y * sine + 2048, y * cosine - x * sine + 2048


def _looked_up(table: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return values of a square table of side 2**n at integer positions that wrap round."""
    side = table.shape[0]
    return table.ravel()[((row & (side - 1)) * side) + (column & (side - 1))]


def wood(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return boards with grain, waves of knots, seams, and a tone of its own for each board."""
    along, across = _turned_grid(rng, height, width, square=False)
    board, length = max(height, width) * rng.uniform(0.1, 0.24), max(height, width) * rng.uniform(0.6, 1.3)
    tone = hsv(rng.uniform(0.05, 0.11), rng.uniform(0.15, 0.6), rng.uniform(0.3, 0.85))
    position = across / np.float32(board)
    index = np.floor(position).astype(np.int32)
    shifts = rng.uniform(0, length, 64).astype(np.float32)
    end = (along + shifts[index & 63]) / np.float32(length)
    piece = index * 7 + np.floor(end).astype(np.int32) * 13
    tones = 1.0 + rng.normal(0, 0.09, 64).astype(np.float32)
    table = smooth_noise(rng, 256, 256, 1.6, 18.0) + 0.6 * smooth_noise(rng, 256, 256, 4.0, 60.0)
    wobble = 5.0 * np.sin(along / np.float32(57.0) + piece.astype(np.float32)) + 3.0 * np.sin(
        along / np.float32(23.0)
    )
    grain = _looked_up(
        table, (across + wobble * 0.6).astype(np.int32) + piece * 31, along.astype(np.int32) + piece * 17
    )
    rings = np.sin(
        (across + wobble * 2.0) / np.float32(board) * np.float32(rng.uniform(14, 30)) + tones[piece & 63] * 40
    )
    value = tones[piece & 63] + np.float32(0.055) * grain + np.float32(0.03) * rings
    gap = np.float32(rng.uniform(0.9, 1.8))
    seam = np.minimum(
        np.abs(position - np.round(position)) * np.float32(board),
        np.abs(end - np.round(end)) * np.float32(length),
    )
    value *= 1.0 - np.float32(rng.uniform(0.3, 0.7)) * np.clip(gap + 0.5 - seam, 0, 1)
    return (
        value[..., None]
        * tone
        * (1.0 + np.float32(0.12) * (value[..., None] - 1.0) * np.array([-1, 0, 1.5], dtype=np.float32))
    )


def carpet(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return tufts in one colour or mottled, sometimes with bands or a border."""
    tone = hsv(rng.random(), rng.uniform(0.03, 0.55), rng.uniform(0.25, 0.8))
    other = hsv(rng.random(), rng.uniform(0.1, 0.5), rng.uniform(0.3, 0.85))
    tuft = rng.uniform(2.0, 4.5)
    pile = smooth_noise(rng, height, width, tuft, tuft)
    light = (
        1.0
        + np.float32(0.1) * pile
        + slope_light(pile, (-0.5, -0.8)) * np.float32(0.18)
        + cloudy(rng, height, width, 90, 2) * 0.04
    )
    picture = np.broadcast_to(tone, (height, width, 3))
    kind = rng.random()
    if kind < 0.35:
        _, across = _turned_grid(rng, height, width, square=False)
        jitter = pile * np.float32(1.2)
        on = wave((across + jitter) / np.float32(rng.uniform(40, 140)), rng.uniform(0.2, 0.5), 20)[..., None]
        picture = tone + on * (other - tone)
    elif kind < 0.6:
        patches = np.clip(cloudy(rng, height, width, rng.uniform(12, 40), 2) * 1.5, 0, 1)[..., None]
        picture = tone + patches * np.float32(0.5) * (other - tone)
    return np.asarray(picture * light[..., None], dtype=np.float32)


def bedsheet(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return cloth with soft folds in a main direction; white, pale or coloured, plain, striped or dotted."""
    tone = (
        hsv(rng.random(), rng.uniform(0.0, 0.12), rng.uniform(0.78, 0.95))
        if rng.random() < 0.5
        else hsv(rng.random(), rng.uniform(0.15, 0.6), rng.uniform(0.3, 0.85))
    )
    half_height, half_width = height // 2 + 1, width // 2 + 1
    along, across = _turned_grid(rng, half_height, half_width, square=False)
    bend = smooth_noise(rng, half_height, half_width, 60, 60) * np.float32(14)
    scale = np.float32(rng.uniform(14, 34))
    folds = np.zeros((half_height, half_width), dtype=np.float32)
    for octave in range(2):
        phase = (across * (1 + 0.7 * octave) + along * np.float32(rng.normal(0, 0.25)) + bend) / scale
        strength = np.clip(smooth_noise(rng, half_height, half_width, 70, 70) + 0.3, 0, 1.5)
        folds += strength * (1.0 - np.abs(np.sin(phase))) ** 2 * np.float32(4.5 / (1 + octave))
    folds += cloudy(rng, half_height, half_width, 80, 2) * np.float32(7.0)
    light = resized(1.0 + slope_light(folds, (-0.6, -0.8)) * np.float32(rng.uniform(0.1, 0.3)), height, width)
    picture = np.broadcast_to(tone, (height, width, 3))
    if rng.random() < 0.4:
        shift = resized(folds, height, width) * np.float32(0.8)
        u, v = _turned_grid(rng, height, width, square=False)
        period = np.float32(rng.uniform(18, 60))
        on = wave((v + shift) / period, rng.uniform(0.15, 0.5), 8)
        if rng.random() < 0.4:
            on = on * wave((u + shift) / period, 0.5, 8)
        other = hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.9))
        picture = tone + on[..., None] * np.float32(0.7) * (other - tone)
    threads = rng.standard_normal((height, width), dtype=np.float32) * np.float32(0.012)
    return np.asarray(picture * np.clip(light + threads, 0.45, 1.25)[..., None], dtype=np.float32)


def tiles(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return square or oblong tiles with grout, a bevel, and marbling or a tone of their own."""
    along, across = _turned_grid(rng, height, width, square=True)
    side = max(height, width) * rng.uniform(0.12, 0.35)
    ratio = float(rng.choice([1.0, 1.0, 2.0]))
    tone = hsv(rng.random(), rng.uniform(0.0, 0.3), rng.uniform(0.45, 0.92))
    row = np.floor(across / np.float32(side))
    u = along / np.float32(side * ratio) + (0.5 * (row % 2) if ratio > 1 else 0)
    v = across / np.float32(side)
    index = (row.astype(np.int32) * 11 + np.floor(u).astype(np.int32) * 7) & 63
    tones = 1.0 + rng.normal(0, rng.uniform(0.01, 0.08), 64).astype(np.float32)
    away = np.minimum(
        np.abs(u - np.round(u)) * np.float32(side * ratio), np.abs(v - np.round(v)) * np.float32(side)
    )
    grout = np.float32(rng.uniform(1.2, 3.0))
    marbling = cloudy(rng, height, width, 50, 4) * np.float32(rng.uniform(0.01, 0.06))
    value = (tones[index] + marbling) * (1.0 - 0.12 * np.exp(-away / np.float32(4.0)))
    on = np.clip(away - grout + 0.5, 0, 1)[..., None]
    joint = tone * np.float32(rng.uniform(0.45, 0.8)) if rng.random() < 0.6 else np.minimum(tone * 1.25, 0.93)
    return np.asarray(joint + on * (tone * value[..., None] - joint), dtype=np.float32)


def plaster(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a painted wall with a slow gradient and a fine unevenness."""
    tone = hsv(rng.random(), rng.uniform(0.0, 0.35), rng.uniform(0.35, 0.9))
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = x * np.float32(rng.uniform(-0.16, 0.16)) + y * np.float32(rng.uniform(-0.2, 0.1))
    grit = smooth_noise(rng, height, width, 2.5, 2.5)
    light = (
        1.0
        + slope
        + slope_light(grit, (-0.5, -0.8)) * np.float32(rng.uniform(0.0, 0.06))
        + cloudy(rng, height, width, 120, 2) * 0.03
    )
    return np.asarray(light[..., None] * tone, dtype=np.float32)
