"""Handbags and totes."""

import numpy as np

from pipelines.synthesis.products.canvas import Canvas, Region
from pipelines.synthesis.products.design import LIGHT, Design, Pose
from pipelines.synthesis.products.noise import smooth_noise
from pipelines.synthesis.products.outlines import ellipse, moved, outline, rounded, spline
from pipelines.synthesis.products.surfaces import (
    creases,
    fabric,
    fabric_colour,
    hsv,
    print_motif,
    rounded_light,
    weave,
)


def design_bag(rng: np.random.Generator) -> Design:
    """Return a leather handbag with a flap, or a cloth tote with a print."""
    return _tote(rng) if rng.random() < 0.45 else _handbag(rng)


def _dashes(canvas: Canvas, path: np.ndarray, colour: np.ndarray, width: float, dash: float) -> None:
    """Paint stitches along `path`."""
    steps = np.hypot(*np.diff(path, axis=0).T)
    distances = np.concatenate([[0.0], np.cumsum(steps)])
    starts = np.arange(0.0, distances[-1] - dash, dash * 1.9)
    for at in starts:
        ends = [
            (np.interp(s, distances, path[:, 0]), np.interp(s, distances, path[:, 1]))
            for s in (at, at + dash)
        ]
        canvas.paint(canvas.stroke(np.array(ends), width), colour)


def _strap(canvas: Canvas, path: np.ndarray, width: float, colour: np.ndarray, shade: float) -> None:
    strap = canvas.stroke(path, width)
    canvas.paint(
        strap, colour, shade * rounded_light(strap, 0.5 * width * canvas.placement.scale + 1, LIGHT, 0.4)
    )


def _grain(rng: np.random.Generator, region: Region) -> np.ndarray:
    """Return the fine unevenness of leather: float32 (h, w) about 0, sd about 0.5."""
    height, width = region.coverage.shape
    return smooth_noise(rng.spawn(1)[0], height, width, 3, 3)


def _handbag(rng: np.random.Generator) -> Design:
    leather = (
        hsv(rng.uniform(0.02, 0.1), rng.uniform(0.45, 0.8), rng.uniform(0.25, 0.7))
        if rng.random() < 0.5
        else fabric_colour(rng)
    )
    metal = hsv(0.12, 0.45, 0.85) if rng.random() < 0.6 else hsv(0.6, 0.04, 0.8)
    stitch = leather * 0.5 + 0.4
    top, low = rng.uniform(0.52, 0.68), rng.uniform(0.7, 0.84)
    height = rng.uniform(0.75, 1.0)
    flap_depth = rng.uniform(0.38, 0.6) * height
    arch = rng.uniform(0.45, 0.75)
    curved = rng.random() < 0.6
    seed = int(rng.integers(2**32))
    y0, y1 = -0.25, -0.25 + height

    def paint(canvas: Canvas) -> None:
        local = np.random.default_rng(seed)
        handle = spline(
            [
                (-0.42, y0 + 0.04),
                (-0.38, y0 - 0.6 * arch),
                (0.0, y0 - arch),
                (0.38, y0 - 0.6 * arch),
                (0.42, y0 + 0.04),
            ]
        )
        _strap(canvas, handle * [0.94, 1] + [0.05, -0.05], 0.06, leather, 0.6)
        gusset = canvas.fill(
            outline(
                [(top - 0.03, y0), (top + 0.09, y0 - 0.05)],
                [(low + 0.1, y1 - 0.1), (low + 0.01, y1), (low - 0.1, y1 - 0.01)],
            )
        )
        canvas.paint(gusset, leather, 0.58)
        body = canvas.fill(rounded([(-top, y0), (top, y0), (low, y1), (-low, y1)], 0.1))
        grain = _grain(local, body) * 0.02
        sag = creases(
            body, [(-0.5, y1 - 0.3, 0.4, y1 - 0.1, 0.07, 0.1), (0.2, y0 + 0.5, 0.5, y1, 0.06, 0.12)]
        )
        light = rounded_light(body, 0.14 * canvas.placement.scale, LIGHT, 0.24) + grain + sag
        canvas.paint(body, leather, np.clip(light * (1.05 - 0.2 * body.y), 0.3, 1.4))
        border = rounded(
            [(-top + 0.05, y0), (top - 0.05, y0), (low - 0.06, y1 - 0.05), (-low + 0.06, y1 - 0.05)], 0.09
        )
        canvas.darken(canvas.within(canvas.stroke(np.vstack([border, border[:1]]), 0.01), body), 0.35)
        _flap(canvas, body, local)
        _strap(canvas, handle, 0.065, leather, 0.95)
        for side in (-1, 1):
            ring = canvas.stroke(ellipse((side * 0.42, y0 + 0.05), 0.05, 0.06), 0.02)
            canvas.paint(ring, metal, 0.75 + 0.4 * (ring.x * side < 0.42))

    def _flap(canvas: Canvas, body: Region, local: np.random.Generator) -> None:
        reach = y0 + flap_depth
        edge = top + 0.01 + (low - top) * flap_depth / height
        if curved:
            lower = [
                (edge, reach - 0.2),
                (edge * 0.72, reach - 0.03),
                (0, reach + 0.03),
                (-edge * 0.72, reach - 0.03),
                (-edge, reach - 0.2),
            ]
        else:
            lower = [(edge, reach - 0.06), (edge - 0.08, reach), (-edge + 0.08, reach), (-edge, reach - 0.06)]
        shape = np.vstack(
            [
                [
                    (-top - 0.005, y0 + 0.03),
                    (-top + 0.06, y0 - 0.05),
                    (top - 0.06, y0 - 0.05),
                    (top + 0.005, y0 + 0.03),
                ],
                spline(lower),
            ]
        )
        for drop, amount in ((0.05, 0.14), (0.03, 0.2), (0.015, 0.22)):
            canvas.darken(canvas.within(canvas.fill(moved(shape, 0.0, drop)), body), amount)
        flap = canvas.fill(shape)
        light = rounded_light(flap, 0.09 * canvas.placement.scale, LIGHT, 0.24) + _grain(local, flap) * 0.02
        canvas.paint(flap, leather * 0.96, np.clip(light, 0.35, 1.4))
        _dashes(canvas, spline(np.array(lower) * [0.95, 1] - [0, 0.05]), stitch, 0.011, 0.035)
        clasp_y = reach - 0.02 if curved else reach - 0.05
        clasp = canvas.fill(
            rounded(
                [
                    (-0.09, clasp_y - 0.07),
                    (0.09, clasp_y - 0.07),
                    (0.09, clasp_y + 0.07),
                    (-0.09, clasp_y + 0.07),
                ],
                0.03,
            )
        )
        canvas.darken(canvas.fill(ellipse((0.01, clasp_y + 0.03), 0.1, 0.08)), 0.3)
        canvas.paint(clasp, metal, 0.95 - 3.0 * (clasp.y - clasp_y) - 1.5 * clasp.x)
        canvas.darken(canvas.fill(ellipse((0, clasp_y), 0.03, 0.03)), 0.5)

    return Design((-low - 0.02, y0 - arch - 0.1, low + 0.11, y1), Pose.STANDING, paint)


def _tote(rng: np.random.Generator) -> Design:
    natural = rng.random() < 0.4
    base = hsv(0.11, rng.uniform(0.1, 0.22), rng.uniform(0.82, 0.93)) if natural else fabric_colour(rng)
    printed = natural or rng.random() < 0.5
    pattern = fabric(rng, base, 0.9)
    top, low, height = rng.uniform(0.58, 0.68), rng.uniform(0.56, 0.68), rng.uniform(1.1, 1.3)
    arch = rng.uniform(0.45, 0.7)
    leather = hsv(0.06, 0.6, rng.uniform(0.25, 0.5)) if rng.random() < 0.35 else base * 0.88
    seed = int(rng.integers(2**32))
    y0, y1 = -0.4, -0.4 + height

    def paint(canvas: Canvas) -> None:
        local = np.random.default_rng(seed)
        lean = local.uniform(-0.08, 0.08)
        handle = spline(
            [
                (-0.27, y0 + 0.1),
                (-0.25, y0 - 0.5 * arch),
                (lean, y0 - arch),
                (0.25, y0 - 0.5 * arch),
                (0.27, y0 + 0.1),
            ]
        )
        _strap(canvas, handle * [0.92, 0.96] + [0.04, -0.04], 0.085, leather, 0.66)
        inside = canvas.fill(
            outline(
                [(-top, y0), (0, y0 - 0.04), (top, y0)], [(top, y0 + 0.02), (0, y0 + 0.05), (-top, y0 + 0.02)]
            )
        )
        canvas.paint(inside, base * 0.5)
        flank = [(top, y0), (top - 0.025, (y0 + y1) / 2), (low, y1 - 0.06)]
        bottom = [(low, y1 - 0.06), (low - 0.08, y1), (-low + 0.08, y1), (-low, y1 - 0.06)]
        mouth = [(-top, y0), (0, y0 + 0.03), (top, y0)]
        body = canvas.fill(
            np.vstack([spline(mouth), spline(flank), spline(bottom), spline(flank)[::-1] * [-1, 1]])
        )
        folds = [
            (x, y0 + 0.05, x * 0.7 + 0.1, y0 + 0.75, 0.045, d)
            for x, d in zip(local.uniform(-0.5, 0.5, 4), local.uniform(-0.2, 0.2, 4), strict=True)
        ]
        folds += [(-low, y1 - 0.05, -0.2, y1 - 0.3, 0.05, 0.18), (low, y1 - 0.05, 0.2, y1 - 0.3, 0.05, -0.18)]
        light = (
            rounded_light(body, 0.08 * canvas.placement.scale, LIGHT, 0.22)
            + creases(body, folds)
            + weave(local, body, 0.018)
        )
        canvas.paint(body, (pattern(body.x, body.y)), np.clip(light * (1.04 - 0.12 * body.y), 0.3, 1.4))
        hem = spline([(-top, y0 + 0.09), (0, y0 + 0.12), (top, y0 + 0.09)])
        canvas.darken(canvas.within(canvas.stroke(hem, 0.01), body), 0.35)
        if printed:
            print_motif(canvas, body, (0.0, (y0 + y1) / 2 + 0.08), local.uniform(0.5, 0.75), local, base)
        _strap(canvas, handle, 0.09, leather, 0.96)
        for side in (-1, 1):
            tab = canvas.fill(
                rounded(
                    [
                        (side * 0.27 - 0.05, y0 + 0.02),
                        (side * 0.27 + 0.05, y0 + 0.02),
                        (side * 0.27 + 0.05, y0 + 0.17),
                        (side * 0.27 - 0.05, y0 + 0.17),
                    ],
                    0.012,
                )
            )
            canvas.paint(tab, leather, 0.92)
            cross = np.array([(side * 0.27 - 0.035, y0 + 0.04), (side * 0.27 + 0.035, y0 + 0.15)])
            canvas.darken(canvas.stroke(cross, 0.01), 0.4)
            canvas.darken(canvas.stroke(cross * [1, -1] + [0, 2 * y0 + 0.19], 0.01), 0.4)

    wide = max(top, low) + 0.02
    return Design((-wide, y0 - arch - 0.1, wide, y1 + 0.01), Pose.STANDING, paint)
