"""Trousers and shorts, laid flat."""

import numpy as np

from pipelines.synthesis.products.canvas import Canvas, Region
from pipelines.synthesis.products.cloth import paint_cloth, random_folds, stitch_seam
from pipelines.synthesis.products.design import Design, Pose
from pipelines.synthesis.products.outlines import ellipse, mirrored, moved, outline, spline
from pipelines.synthesis.products.surfaces import fabric, fabric_colour, plain


def design_trousers(rng: np.random.Generator) -> Design:
    """Return jeans, chinos or shorts: waistband, fly, pockets, belt loops."""
    jeans = rng.random() < 0.5
    base = (
        np.array([0.2, 0.3, 0.47], dtype=np.float32) * rng.uniform(0.5, 1.5) if jeans else fabric_colour(rng)
    )
    pattern = plain(base) if jeans or rng.random() < 0.7 else fabric(rng, base, 0.6)
    stitch = np.array([0.85, 0.6, 0.3], dtype=np.float32) if jeans else base * 0.7
    short = rng.random() < 0.3
    length = rng.uniform(0.25, 0.45) if short else rng.uniform(0.92, 1.05)
    waist, hip = rng.uniform(0.3, 0.36), rng.uniform(0.42, 0.48)
    spread, cuff = rng.uniform(0.02, 0.16), (rng.uniform(0.32, 0.4) if short else rng.uniform(0.17, 0.27))
    crotch = -0.22
    worn = jeans and rng.random() < 0.6
    seed = int(rng.integers(2**32))
    outer = hip + spread * (0.3 if short else 1.0) - 0.02

    def paint(canvas: Canvas) -> None:
        local = np.random.default_rng(seed)
        back = canvas.fill(
            outline(
                [(-waist, -0.93), (0, -0.975), (waist, -0.93)], [(waist, -0.9), (0, -0.88), (-waist, -0.9)]
            )
        )
        canvas.paint(back, base * 0.55)
        top = [(-waist, -0.93), (0, -0.895), (waist, -0.93)]
        flank = [(waist, -0.93), (hip - 0.01, -0.55), (hip + spread * 0.25, 0.0), (outer, length)]
        inseam = [
            (outer - cuff, length),
            (outer - cuff * 1.02 - 0.03, (length + crotch) / 2 + 0.1),
            (0.015, crotch),
        ]
        shape = outline(top, flank, inseam, mirrored(inseam), mirrored(flank))
        body = canvas.fill(shape)
        folds = random_folds(local, 6, (-0.42, 0.0, 0.42, length), 0.0, 0.15)
        for side in (1, -1):
            for _ in range(3):
                folds.append(
                    (
                        0.02 * side,
                        crotch - 0.02,
                        side * local.uniform(0.2, 0.42),
                        crotch + local.uniform(-0.25, 0.2),
                        0.035,
                        side * local.uniform(0.1, 0.22),
                    )
                )
        paint_cloth(canvas, body, pattern, folds, local)
        if worn:
            for side in (1, -1):
                fade = canvas.within(
                    canvas.fill(ellipse((side * (hip + outer) * 0.5 - side * 0.2, 0.05), 0.11, 0.32)), body
                )
                soft = np.exp(
                    -(((fade.x - side * ((hip + outer) * 0.5 - 0.2)) / 0.07) ** 2)
                    - ((fade.y - 0.05) / 0.2) ** 2
                )
                canvas.lighten(Region(fade.rows, fade.columns, fade.coverage * soft, fade.x, fade.y), 0.35)
        _trouser_details(canvas, body, waist, hip, crotch, stitch)
        for side in (1, -1):
            stitch_seam(
                canvas,
                np.array([(outer, length - 0.05), (outer - cuff, length - 0.05)]) * [side, 1],
                body,
                0.01,
                0.4,
            )

    return Design((-outer - 0.02, -0.98, outer + 0.02, length + 0.01), Pose.CLOTH, paint)


def _trouser_details(
    canvas: Canvas, body: Region, waist: float, hip: float, crotch: float, stitch: np.ndarray
) -> None:
    stitch_seam(
        canvas, spline([(-waist - 0.02, -0.83), (0, -0.795), (waist + 0.02, -0.83)]), body, 0.016, 0.5
    )
    stitch_seam(canvas, np.array([(0, -0.8), (0, -0.5), (0.01, crotch)]), body, 0.014, 0.5)
    fly = spline([(0.09, -0.8), (0.085, -0.55), (0.0, -0.42)])
    canvas.paint(canvas.stroke(fly, 0.009), stitch)
    canvas.paint(canvas.fill(ellipse((0, -0.85), 0.022, 0.022)), (0.72, 0.66, 0.5))
    for side in (1, -1):
        pocket = spline([(waist * 0.5, -0.81), (waist * 0.62, -0.68), (hip, -0.58)]) * [side, 1]
        canvas.dye(canvas.within(canvas.stroke(moved(pocket, 0, 0.015), 0.009), body), stitch)
        stitch_seam(canvas, pocket, body, 0.014, 0.5)
        for share in (0.3, 0.78):
            loop = np.array([(waist * share, -0.925), (waist * share, -0.81)]) * [side, 1]
            canvas.darken(canvas.stroke(moved(loop, 0.012, 0.008), 0.028), 0.35)
            canvas.lighten(canvas.within(canvas.stroke(loop, 0.024), body), 0.12)
