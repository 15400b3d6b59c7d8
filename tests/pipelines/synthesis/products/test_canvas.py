import math

import numpy as np
import pytest

from pipelines.synthesis.products.canvas import Canvas, Placement
from pipelines.synthesis.products.outlines import ellipse


def canvas(**changes: float) -> Canvas:
    return Canvas(120, 160, Placement(**({"centre_x": 80, "centre_y": 60, "scale": 50} | changes)))


@pytest.mark.parametrize("radians", [0.0, 0.4])
def test_filled_area_is_the_outlines(radians: float) -> None:
    region = canvas(radians=radians).fill(ellipse((0.1, 0.05), 0.8, 0.4))
    assert region.coverage.sum() == pytest.approx(math.pi * 40 * 20, rel=0.02)
    assert region.coverage.min() == 0.0
    assert region.coverage.max() == 1.0
    assert ((region.coverage > 0) & (region.coverage < 1)).sum() > 40, "the rim is not antialiased"


def test_stroke_has_its_width_along_a_bend() -> None:
    bend = np.array([(math.cos(a), math.sin(a)) for a in np.linspace(0, math.pi, 60)]) * 0.8
    region = canvas().stroke(bend, 0.1, round_ends=False)
    assert region.coverage.sum() == pytest.approx(math.pi * 40 * 5, rel=0.03)
    capped = canvas().stroke(bend, 0.1)
    assert capped.coverage.sum() - region.coverage.sum() == pytest.approx(math.pi * 2.5**2, rel=0.35)


def test_product_coordinates_agree_with_drawn_outlines() -> None:
    board = canvas(radians=0.3, mirror=True, limp=0.01, phase=1.0)
    region = board.fill(ellipse((0.4, -0.3), 0.05, 0.05))
    weight = region.coverage / region.coverage.sum()
    assert (region.x * weight).sum() == pytest.approx(0.4, abs=0.01)
    assert (region.y * weight).sum() == pytest.approx(-0.3, abs=0.01)


def test_upper_parts_hide_lower_ones_and_edges_mix() -> None:
    board = canvas()
    whole = board.fill(ellipse((0, 0), 0.9, 0.9))
    board.paint(whole, (1.0, 0.0, 0.0))
    board.paint(board.fill(ellipse((0, 0), 0.3, 0.3)), (0.0, 0.0, 1.0))
    colour = board.colour((slice(None), slice(None)))
    assert colour[60, 80] == pytest.approx([0, 0, 1])
    assert colour[60, 60] == pytest.approx([1, 0, 0])
    rim = (board.coverage > 0.1) & (board.coverage < 0.9)
    assert colour[rim] == pytest.approx(np.tile([1.0, 0, 0], (rim.sum(), 1)), abs=1e-5), "background leaks in"
    assert board.coverage[60, 80] == 1.0
    assert board.coverage[0, 0] == 0.0


def test_seams_and_gloss_stay_on_the_product() -> None:
    board = canvas()
    whole = board.fill(ellipse((0, 0), 0.5, 0.5))
    board.paint(whole, (0.5, 0.5, 0.5))
    before = board.coverage.copy()
    line = board.stroke([(-1.2, 0.0), (1.2, 0.0)], 0.1)
    board.darken(line, 0.5)
    assert board.colour((slice(60, 61), slice(80, 81)))[0, 0] == pytest.approx([0.25] * 3)
    board.lighten(line, 0.5)
    assert board.colour((slice(60, 61), slice(80, 81)))[0, 0] == pytest.approx([0.625] * 3)
    assert np.array_equal(board.coverage, before)
    cut = board.within(line, whole)
    assert cut.coverage[:, 0].max() == 0.0
    assert cut.coverage.max() == 1.0


def test_parts_beyond_the_picture_are_cut_off() -> None:
    board = canvas()
    board.paint(board.fill(ellipse((3, 3), 0.5, 0.5)), (1, 1, 1))
    board.paint(board.stroke([(-9, -9), (-8, -9)], 0.1), (1, 1, 1))
    assert board.coverage.max() == 0.0
