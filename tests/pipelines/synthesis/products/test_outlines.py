import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.synthesis.products.outlines import ellipse, mirrored, moved, outline, rounded, spline

POINTS = st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), min_size=3, max_size=8)


def area(points: np.ndarray) -> float:
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


@given(POINTS, st.booleans())
def test_a_spline_passes_through_its_points(points: list[tuple[float, float]], closed: bool) -> None:
    curve = spline(points, closed, samples=10)
    assert np.allclose(curve[::10][: len(points)], points, atol=1e-9)


@given(POINTS)
def test_a_spline_of_points_on_a_line_stays_on_it(points: list[tuple[float, float]]) -> None:
    curve = spline([(x, 0.5 * x) for x, _ in points])
    assert np.allclose(curve[:, 1], 0.5 * curve[:, 0], atol=1e-9)


def test_edges_meet_in_corners() -> None:
    shape = outline([(0, 0), (1, 0.2), (2, 0)], [(2, 0), (2, 1)], [(2, 1), (1, 0.8), (0, 1)])
    for corner in ((0, 0), (2, 0), (2, 1), (0, 1)):
        assert np.isclose(shape, corner).all(axis=1).any()


def test_rounding_takes_a_little_off_each_corner() -> None:
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    # A quadratic curve from r before to r after a right corner cuts off r^2 / 6.
    assert math.isclose(area(rounded(square, 0.2)), 1 - 4 * 0.2**2 / 6, rel_tol=2e-3)
    assert area(rounded(square, 9.0)) > 0.6, "a radius beyond the sides is limited"


def test_areas_of_ellipses() -> None:
    assert math.isclose(area(ellipse((3, 4), 2, 1)), 2 * math.pi, rel_tol=5e-3)
    assert 2 * math.pi < area(ellipse((3, 4), 2, 1, power=4)) < 8


def test_a_mirrored_edge_closes_a_symmetric_outline() -> None:
    right = [(0.5, -1), (1, 0), (0.5, 1)]
    whole = np.vstack([right, mirrored(right)])
    assert np.allclose(sorted(map(tuple, whole)), sorted(map(tuple, whole * [-1, 1])))
    assert np.allclose(moved(right, 1, 2), np.add(right, [1, 2]))
