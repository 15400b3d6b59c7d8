"""Parts that all clothes share: cloth with folds, seams, threads."""

import math

import numpy as np

from pipelines.synthesis.products.canvas import Canvas, Region
from pipelines.synthesis.products.design import LIGHT
from pipelines.synthesis.products.outlines import Points
from pipelines.synthesis.products.surfaces import (
    Pattern,
    creases,
    rounded_light,
    weave,
)

Crease = tuple[float, float, float, float, float, float]


def paint_cloth(
    canvas: Canvas,
    region: Region,
    pattern: Pattern,
    folds: list[Crease],
    rng: np.random.Generator,
    puff: float = 0.05,
) -> None:
    """Paint a piece of cloth: its pattern under the light of its rounded rim, its folds and its threads."""
    radius = puff * canvas.placement.scale
    shade = rounded_light(region, radius, LIGHT, 0.2) + creases(region, folds) + weave(rng, region, 0.012)
    canvas.paint(region, pattern(region.x, region.y), np.clip(shade, 0.3, 1.45))


def stitch_seam(
    canvas: Canvas, points: Points, whole: Region, width: float = 0.012, amount: float = 0.4
) -> None:
    """Draw a dark line along `points`, within `whole`."""
    canvas.darken(canvas.within(canvas.stroke(points, width), whole), amount)


def random_folds(
    rng: np.random.Generator, count: int, box: tuple[float, float, float, float], lean: float, depth: float
) -> list[Crease]:
    """Return `count` folds inside `box`, about `lean` radians from vertical."""
    lines = []
    for _ in range(count):
        x, y = rng.uniform(box[0], box[2]), rng.uniform(box[1], box[3])
        length, angle = rng.uniform(0.25, 0.7), rng.normal(lean, 0.35)
        dx, dy = length * math.sin(angle) / 2, length * math.cos(angle) / 2
        lines.append(
            (
                x - dx,
                y - dy,
                x + dx,
                y + dy,
                rng.uniform(0.025, 0.07),
                depth * rng.uniform(0.5, 1.2) * rng.choice([-1, 1]),
            )
        )
    return lines
