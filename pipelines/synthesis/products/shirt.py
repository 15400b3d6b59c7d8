"""T-shirts, polos and long-sleeved shirts, laid flat."""

import math

import numpy as np

from pipelines.synthesis.products.canvas import Canvas, Region
from pipelines.synthesis.products.cloth import paint_cloth, random_folds, stitch_seam
from pipelines.synthesis.products.design import LIGHT, Design, Pose
from pipelines.synthesis.products.outlines import ellipse, mirrored, moved, outline, rounded, spline
from pipelines.synthesis.products.surfaces import (
    Pattern,
    accent_to,
    fabric,
    fabric_colour,
    plain,
    print_motif,
    rounded_light,
)


def design_shirt(rng: np.random.Generator) -> Design:
    """Return a T-shirt, polo or long-sleeved shirt, round or V-necked, plain, patterned or printed."""
    base = fabric_colour(rng)
    pattern = fabric(rng, base)
    raglan = rng.random() < 0.15
    sleeve_pattern = plain(accent_to(base, rng)) if raglan else pattern
    long_sleeves = rng.random() < 0.4
    polo, v_neck = rng.random() < 0.25, rng.random() < 0.3
    printed = not polo and rng.random() < 0.5
    neck, drop = rng.uniform(0.17, 0.23), rng.uniform(0.12, 0.18) + (0.16 if v_neck else 0.0)
    waist, hem = rng.uniform(0.47, 0.56), rng.uniform(0.5, 0.6)
    length = rng.uniform(0.72, 0.92)
    lean = math.radians(rng.uniform(58, 72) if long_sleeves else rng.uniform(32, 52))
    reach = rng.uniform(1.05, 1.25) if long_sleeves else rng.uniform(0.34, 0.46)
    cuff = rng.uniform(0.15, 0.19) if long_sleeves else rng.uniform(0.27, 0.33)
    trim = accent_to(base, rng) if rng.random() < 0.25 else base * 0.86
    shoulder, armpit = np.array([0.56, -0.66]), np.array([waist, -0.2])
    tip = shoulder + reach * np.array([math.cos(lean), math.sin(lean)])
    under = tip + cuff * np.array([-math.sin(lean), math.cos(lean)])
    seed = int(rng.integers(2**32))

    def paint(canvas: Canvas) -> None:
        local = np.random.default_rng(seed)
        back = outline([(-neck, -0.8), (0, -0.76), (neck, -0.8)], _neckline(neck, drop, v_neck)[::-1])
        inside = canvas.fill(back)
        canvas.paint(inside, base * 0.52, 1.0 + 0.3 * (inside.y + 0.8))
        canvas.paint(
            canvas.fill(rounded([(-0.05, -0.745), (0.05, -0.745), (0.05, -0.69), (-0.05, -0.69)], 0.01)),
            (0.92, 0.92, 0.9),
        )
        for side in (1, -1):
            _sleeve(canvas, side, sleeve_pattern, trim, local)
        right = [(neck, -0.8), (0.4, -0.745), tuple(shoulder)]
        hole = [tuple(shoulder), (0.5, -0.42), tuple(armpit)]
        flank = [tuple(armpit), (waist - 0.02, 0.25), (hem, length)]
        bottom = [(hem, length), (0.0, length + 0.035), (-hem, length)]
        shape = outline(
            right,
            hole,
            flank,
            bottom,
            mirrored(flank),
            mirrored(hole),
            mirrored(right),
            _neckline(neck, drop, v_neck),
        )
        body = canvas.fill(shape)
        folds = random_folds(local, 6, (-0.45, 0.0, 0.45, length), 0.0, 0.22)
        for side in (1, -1):
            for _ in range(3):
                end = (side * local.uniform(0.05, 0.35), local.uniform(-0.2, 0.35))
                folds.append(
                    (
                        side * waist,
                        -0.2 + local.uniform(-0.05, 0.1),
                        *end,
                        local.uniform(0.03, 0.05),
                        side * local.uniform(0.12, 0.3),
                    )
                )
        paint_cloth(canvas, body, pattern, folds, local)
        for side in (1, -1):
            stitch_seam(canvas, spline(hole) * [side, 1], body)
        stitch_seam(canvas, spline(moved(bottom, 0, -0.045)), body, 0.008, 0.3)
        if printed:
            print_motif(
                canvas,
                body,
                (local.uniform(-0.03, 0.03), -0.12 + drop * 0.3),
                local.uniform(0.4, 0.68),
                local,
                base,
            )
        if polo:
            _polo(canvas, body, neck, drop, base, trim)
        else:
            collar = canvas.stroke(_neckline(neck + 0.012, drop + 0.014, v_neck), 0.055, round_ends=False)
            canvas.paint(collar, trim, 0.95)
            stitch_seam(canvas, _neckline(neck + 0.04, drop + 0.045, v_neck), body, 0.01, 0.35)

    def _sleeve(
        canvas: Canvas, side: int, cloth: Pattern, trim: np.ndarray, local: np.random.Generator
    ) -> None:
        sag = 0.03 * reach
        top = [(0.46, -0.7), tuple(shoulder), tuple((shoulder + tip) / 2 + np.array([sag, -sag])), tuple(tip)]
        low = [
            tuple(under),
            tuple((under + armpit) / 2 + np.array([0.01, 0.03])),
            tuple(moved(armpit, -0.05, 0.04)),
            (0.4, -0.3),
        ]
        sleeve = canvas.fill(outline(top, low) * [side, 1])
        middle = (shoulder + tip) / 2
        folds = [
            (
                side * (middle[0] + dx),
                middle[1] + dy - 0.12,
                side * (middle[0] + dx - 0.1),
                middle[1] + dy + 0.22,
                0.035,
                side * 0.2,
            )
            for dx, dy in local.uniform(-0.15 * reach, 0.15 * reach, (4 if long_sleeves else 2, 2)) * [1, 2]
        ]
        turned: Pattern = (
            (
                lambda x, y: cloth(
                    x * math.cos(lean) * side + y * math.sin(lean),
                    y * math.cos(lean) - x * side * math.sin(lean),
                )
            )
            if long_sleeves
            else cloth
        )
        paint_cloth(canvas, sleeve, turned, folds, local, 0.06)
        along = (tip - shoulder) / reach
        if long_sleeves:
            band = np.array([tip, under, under - 0.09 * along, tip - 0.09 * along]) * [side, 1]
            canvas.dye(canvas.within(canvas.fill(band), sleeve), trim, 0.92)
        stitch_seam(
            canvas, np.array([tip - 0.05 * along, under - 0.05 * along]) * [side, 1], sleeve, 0.008, 0.35
        )

    far = max(0.62, float(tip[0]), float(under[0])) + 0.02
    return Design((-far, -0.83, far, max(length + 0.04, float(under[1]))), Pose.CLOTH, paint)


def _neckline(neck: float, drop: float, v_neck: bool) -> np.ndarray:
    """Return the neckline from the left shoulder down and up to the right one."""
    if v_neck:
        half = [(-neck, -0.8), (-neck * 0.62, -0.8 + drop * 0.5), (-0.005, -0.8 + drop)]
        left = spline(half)
        return np.vstack([left, mirrored(left)])
    return spline(
        [
            (-neck, -0.8),
            (-neck * 0.72, -0.8 + drop * 0.72),
            (0, -0.8 + drop),
            (neck * 0.72, -0.8 + drop * 0.72),
            (neck, -0.8),
        ]
    )


def _polo(canvas: Canvas, body: Region, neck: float, drop: float, base: np.ndarray, trim: np.ndarray) -> None:
    low = -0.8 + drop
    placket = canvas.fill(
        rounded([(-0.045, low - 0.02), (0.045, low - 0.02), (0.045, low + 0.3), (-0.045, low + 0.3)], 0.015)
    )
    canvas.paint(placket, base, 0.9)
    stitch_seam(canvas, np.array([(0.045, low), (0.045, low + 0.3), (-0.045, low + 0.3)]), body, 0.01, 0.5)
    for step in (0.05, 0.14, 0.23):
        canvas.paint(
            canvas.fill(ellipse((0, low + step), 0.017, 0.017)),
            accent_to(base, np.random.default_rng(3)),
            0.9,
        )
    for side in (1, -1):
        wing = np.array(
            [
                (neck * 0.9, -0.85),
                (neck + 0.1, -0.76),
                (0.17, low + 0.1),
                (0.0, low - 0.01),
                (neck * 0.6, -0.74),
            ]
        ) * [side, 1]
        leaf = canvas.fill(rounded(wing, 0.03))
        canvas.paint(leaf, trim, rounded_light(leaf, 0.04 * canvas.placement.scale, LIGHT, 0.2))
        stitch_seam(canvas, np.array([wing[1], wing[2], wing[3]]), leaf, 0.012, 0.4)
