"""Smooth outlines: splines that meet in corners, rounded polygons, ellipses. Points are (x, y), y downwards."""

import math
from collections.abc import Sequence

import numpy as np

Points = Sequence[tuple[float, float]] | np.ndarray


def spline(points: Points, closed: bool = False, samples: int = 10) -> np.ndarray:
    """Return a Catmull-Rom curve through `points` (N, 2): float (M, 2), `samples` steps between neighbours."""
    knots = np.asarray(points, dtype=np.float64)
    if closed:
        knots = np.vstack([knots[-1:], knots, knots[:2]])
    else:
        knots = np.vstack([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0.0, 1.0, samples, endpoint=False)[None, :, None]
    before, start, end, after = (knots[i : len(knots) - 3 + i, None, :] for i in range(4))
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    curve = curve.reshape(-1, 2)
    return curve if closed else np.vstack([curve, knots[-2]])


def outline(*edges: Points) -> np.ndarray:
    """Return a closed outline of smooth edges that meet in corners: each edge is a spline through its points."""
    return np.vstack(
        [spline(edge) if len(edge) > 2 else np.asarray(edge, dtype=np.float64) for edge in edges]
    )


def rounded(corners: Points, radius: float) -> np.ndarray:
    """Return a closed polygon whose corners are cut by quadratic curves that start `radius` before each corner."""
    knots = np.asarray(corners, dtype=np.float64)
    t = np.linspace(0.0, 1.0, 7)[:, None]
    pieces = []
    for before, corner, after in zip(
        np.roll(knots, 1, axis=0), knots, np.roll(knots, -1, axis=0), strict=True
    ):
        start = corner + (before - corner) * min(0.5, radius / max(1e-6, math.dist(before, corner)))
        end = corner + (after - corner) * min(0.5, radius / max(1e-6, math.dist(after, corner)))
        pieces.append((1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * end)
    return np.vstack(pieces)


def ellipse(centre: tuple[float, float], radius_x: float, radius_y: float, power: float = 2.0) -> np.ndarray:
    """Return a closed (super)ellipse; `power` above 2 makes it boxier."""
    angle = np.linspace(0.0, 2 * math.pi, 48, endpoint=False)
    cosine, sine = np.cos(angle), np.sin(angle)
    x = np.sign(cosine) * np.abs(cosine) ** (2 / power) * radius_x
    y = np.sign(sine) * np.abs(sine) ** (2 / power) * radius_y
    return np.stack([centre[0] + x, centre[1] + y], axis=1)


def moved(points: Points, right: float, down: float) -> np.ndarray:
    """Return the points, shifted."""
    return np.asarray(points, dtype=np.float64) + np.array([right, down])


def mirrored(points: Points) -> np.ndarray:
    """Return the points across the vertical axis, in reverse order: the left edge that continues a right one."""
    return np.asarray(points, dtype=np.float64)[::-1] * np.array([-1.0, 1.0])
