"""Dresses, laid flat."""

import math

import numpy as np

from pipelines.synthesis.products.canvas import Canvas
from pipelines.synthesis.products.cloth import paint_cloth, random_folds, stitch_seam
from pipelines.synthesis.products.design import Design, Pose
from pipelines.synthesis.products.outlines import mirrored, outline, spline
from pipelines.synthesis.products.surfaces import (
    accent_to,
    fabric,
    fabric_colour,
)


def design_dress(rng: np.random.Generator) -> Design:
    """Return a sleeveless or strapped dress: bodice, waist seam and a skirt that falls in folds."""
    base = fabric_colour(rng)
    pattern = fabric(rng, base, 0.8)
    length, flare = rng.uniform(0.75, 1.0), rng.uniform(0.42, 0.75)
    waist, bust = rng.uniform(0.22, 0.28), rng.uniform(0.3, 0.35)
    straps = rng.random() < 0.4
    belt = rng.random() < 0.5
    trim = accent_to(base, rng)
    seed = int(rng.integers(2**32))

    def paint(canvas: Canvas) -> None:
        local = np.random.default_rng(seed)
        if straps:
            for side in (1, -1):
                loop = [
                    (side * 0.08, -0.6),
                    (side * 0.115, -0.85),
                    (side * 0.145, -0.97),
                    (side * 0.175, -0.85),
                    (side * 0.2, -0.6),
                ]
                canvas.paint(canvas.stroke(spline(loop[:3]), 0.026), base, 0.6)
                canvas.paint(canvas.stroke(spline(loop[2:]), 0.03), base, 0.9)
            top = [(-0.22, -0.66), (-0.1, -0.6), (0, -0.57), (0.1, -0.6), (0.22, -0.66)]
            arm = [(0.22, -0.66), (0.26, -0.56), (bust, -0.5)]
        else:
            canvas.paint(
                canvas.fill(
                    outline(
                        [(-0.16, -0.95), (0, -0.9), (0.16, -0.95)],
                        [(0.16, -0.95), (0.13, -0.74), (0, -0.66), (-0.13, -0.74), (-0.16, -0.95)],
                    )
                ),
                base * 0.55,
            )
            top = [(-0.16, -0.95), (-0.11, -0.76), (0, -0.68), (0.11, -0.76), (0.16, -0.95)]
            arm = [(0.16, -0.95), (0.27, -0.93), (0.24, -0.7), (bust, -0.52)]
        shoulder = [arm[0], arm[1]] if not straps else []
        edge = outline(*([shoulder] if shoulder else []), arm[1:] if shoulder else arm)
        flank = [(bust, -0.52), (waist + 0.02, -0.25), (waist, -0.14)]
        skirt = [(waist, -0.14), (waist + 0.4 * (flare - waist), 0.2), (flare, length)]
        waves = [(flare * (1 - 2 * k / 12), length + 0.03 * math.cos(1.7 * k + seed % 7)) for k in range(13)]
        lower = canvas.fill(outline(skirt, waves, mirrored(skirt)))
        falls = [
            (
                waist * s * 0.9,
                -0.12,
                flare * s * 0.95,
                length,
                local.uniform(0.025, 0.05),
                local.uniform(0.2, 0.4),
            )
            for s in np.linspace(-0.9, 0.9, int(local.integers(7, 12))) + local.normal(0, 0.04)
        ]
        paint_cloth(
            canvas,
            lower,
            pattern,
            [(x0, y0, x1, y1 + 0.3, w, d) for x0, y0, x1, y1, w, d in falls],
            local,
            0.07,
        )
        bodice_edge = np.vstack([edge, spline(flank)])
        bodice = canvas.fill(np.vstack([spline(top), bodice_edge, [(0.0, -0.12)], mirrored(bodice_edge)]))
        folds = random_folds(local, 4, (-0.2, -0.5, 0.2, -0.15), 0.2, 0.14)
        paint_cloth(canvas, bodice, pattern, folds, local, 0.06)
        stitch_seam(canvas, spline(top), bodice, 0.03, 0.2)
        if belt:
            band = canvas.stroke(spline([(-waist, -0.14), (0, -0.115), (waist, -0.14)]), 0.055)
            canvas.dye(canvas.within(band, bodice), trim, 0.9)
            canvas.dye(canvas.within(band, lower), trim, 0.9)
        else:
            stitch_seam(canvas, spline([(-waist, -0.14), (0, -0.12), (waist, -0.14)]), bodice, 0.016, 0.5)

    return Design((-flare - 0.02, -1.0, flare + 0.02, length + 0.05), Pose.CLOTH, paint)
