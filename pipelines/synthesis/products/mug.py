"""Mugs, seen a little from above: a glazed cylinder with a handle."""

import math

import numpy as np

from pipelines.synthesis.products.canvas import Canvas, Region
from pipelines.synthesis.products.design import Design, Pose
from pipelines.synthesis.products.noise import softened
from pipelines.synthesis.products.outlines import ellipse, moved, spline
from pipelines.synthesis.products.surfaces import (
    accent_to,
    dots,
    fabric_colour,
    hsv,
    plain,
    print_motif,
    stripes,
)


def design_mug(rng: np.random.Generator) -> Design:
    """Return a straight, tapered or bellied mug, plain, banded, dotted, dipped or printed, sometimes with coffee."""
    base = hsv(0.1, rng.uniform(0.0, 0.06), 0.95) if rng.random() < 0.35 else fabric_colour(rng)
    accent = accent_to(base, rng)
    inner = accent if rng.random() < 0.3 else hsv(0.1, 0.04, 0.94)
    top, bottom = -rng.uniform(0.5, 0.72), rng.uniform(0.55, 0.68)
    half, foot = rng.uniform(0.48, 0.56), rng.uniform(0.38, 0.55)
    belly = rng.uniform(-0.02, 0.05)
    tilt = rng.uniform(0.12, 0.22)  # ratio of the rim's ellipse, larger if seen from further above
    handle_reach, thick = rng.uniform(0.3, 0.42), rng.uniform(0.09, 0.13)
    style = rng.choice(["plain", "bands", "dots", "dip", "print", "print"])
    coffee = rng.random() < 0.3
    seed = int(rng.integers(2**32))

    def paint(canvas: Canvas) -> None:
        local = np.random.default_rng(seed)
        _handle(canvas, base, half, top, bottom, handle_reach, thick)
        side = [
            (half, top),
            (half + belly, (top + bottom) / 2),
            ((half + foot) / 2, bottom - 0.12),
            (foot, bottom - 0.02),
        ]
        angle = np.linspace(0, math.pi, 24)
        base_arc = np.stack([foot * np.cos(angle), bottom - 0.02 + foot * tilt * np.sin(angle)], axis=1)
        body = canvas.fill(np.vstack([spline(side), base_arc, spline(side)[::-1] * [-1, 1]]))
        canvas.paint(body, _glaze(body), _cylinder(body, half))
        if style == "print":
            print_motif(
                canvas,
                body,
                (local.uniform(-0.08, 0.08), (top + bottom) / 2 + 0.06),
                local.uniform(0.45, 0.62),
                local,
                base,
            )
            canvas.darken(
                Region(
                    body.rows,
                    body.columns,
                    body.coverage * np.clip((np.abs(body.x / half) - 0.55) * 1.2, 0, 1),
                    body.x,
                    body.y,
                ),
                0.5,
            )
        _gloss(canvas, body, half)
        _rim(canvas, half, top)

    def _glaze(body: Region) -> np.ndarray:
        level = body.y - tilt * np.sqrt(np.clip(half**2 - body.x**2, 0, None))  # bands follow the rim's curve
        around = np.arcsin(np.clip(body.x / (half + 0.03), -1, 1)) * half
        if style == "bands":
            return stripes(base, accent, (bottom - top) / 4.2, 0.4)(around, level)
        if style == "dots":
            return dots(base, accent, 0.2, 0.28)(around, level)
        if style == "dip":
            dipped = np.clip(
                (level - (top + bottom) / 2 - 0.02 * np.sin(9 * around)) * canvas_sharpness, 0, 1
            )[..., None]
            return base + dipped * (accent - base)
        return plain(base)(around, level)

    def _rim(canvas: Canvas, half: float, top: float) -> None:
        lip = canvas.fill(ellipse((0, top), half, half * tilt))
        canvas.paint(lip, base * 0.35 + 0.62, 0.98)
        hollow = canvas.fill(ellipse((0, top + 0.008), half - 0.04, (half - 0.04) * tilt))
        depth = np.clip((hollow.y - top) / (half * tilt), -1, 1)
        canvas.paint(hollow, inner, 0.62 + 0.22 * depth + 0.16 * hollow.x / half)
        if coffee:
            surface = canvas.fill(ellipse((0, top + 0.05), half - 0.075, (half - 0.1) * tilt))
            canvas.dye(canvas.within(surface, hollow), (0.24, 0.13, 0.07), 1.0 + 0.5 * surface.x)

    canvas_sharpness = 60.0
    return Design(
        (-half - 0.04, top - half * tilt, half + handle_reach + thick / 2, bottom + foot * tilt),
        Pose.STANDING,
        paint,
    )


def _handle(
    canvas: Canvas, base: np.ndarray, half: float, top: float, bottom: float, reach: float, thick: float
) -> None:
    height = bottom - top
    upper, lower = top + 0.17 * height, top + 0.74 * height
    path = spline(
        [
            (half - 0.05, upper),
            (half + 0.55 * reach, upper - 0.02),
            (half + reach, upper + 0.22 * height),
            (half + 0.8 * reach, lower - 0.12 * height),
            (half + 0.25 * reach, lower),
            (half - 0.08, lower + 0.02),
        ]
    )
    ring = canvas.stroke(path, thick)
    canvas.paint(ring, base, 0.62)
    for offset, width, gain in ((-0.008, 0.72, 0.1), (-0.016, 0.4, 0.14), (-0.022, 0.12, 0.4)):
        canvas.lighten(canvas.within(canvas.stroke(moved(path, offset, offset), thick * width), ring), gain)


def _cylinder(body: Region, half: float) -> np.ndarray:
    """Return the light on an upright cylinder lit from the left: float32 (h, w)."""
    across = np.clip(body.x / (half + 0.03), -1, 1)
    facing = np.sqrt(1 - across**2) * 0.82 - across * 0.5
    return np.asarray(np.clip(0.42 + 0.66 * facing, 0.3, 1.12) * (1.03 - 0.1 * body.y), dtype=np.float32)


def _gloss(canvas: Canvas, body: Region, half: float) -> None:
    """Draw the reflection of a window: a soft bright band on the left, a faint one on the right."""
    across = body.x / half
    band = np.exp(-(((across + 0.58) / 0.09) ** 2)) * 0.42 + np.exp(-(((across - 0.8) / 0.06) ** 2)) * 0.12
    inner = np.clip(softened(body.coverage, 8.0) * 2 - 1, 0, 1)
    canvas.lighten(Region(body.rows, body.columns, (band * inner).astype(np.float32), body.x, body.y), 1.0)
