import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.synthesis.products.canvas import Canvas, Placement
from pipelines.synthesis.products.outlines import ellipse
from pipelines.synthesis.products.surfaces import (
    accent_to,
    checks,
    creases,
    dots,
    fabric_colour,
    print_motif,
    rounded_light,
    stripes,
)

RED, BLUE = np.array([0.8, 0.1, 0.1], np.float32), np.array([0.1, 0.1, 0.8], np.float32)
Y, X = ((axis + 0.5).astype(np.float32) / 100 for axis in np.mgrid[:200, :200])


def board() -> Canvas:
    return Canvas(120, 120, Placement(60, 60, 50))


@given(st.integers(0, 2**32))
def test_accents_stand_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = fabric_colour(rng)
    accent = accent_to(base, rng)
    for colour in (base, accent):
        assert colour.min() >= 0
        assert colour.max() <= 1
    assert np.abs(base - accent).max() > 0.08


def test_stripes_have_their_period_and_share() -> None:
    cloth = stripes(RED, BLUE, 0.5, 0.4)(X, Y)
    assert cloth.shape == (200, 200, 3)
    assert np.allclose(cloth[:150], cloth[50:], atol=1e-3)
    assert (cloth[..., 2] > 0.45).mean() == pytest.approx(0.4, abs=0.03)
    assert np.array_equal(cloth[:, 0], cloth[:, 77]), "horizontal stripes do not change along x"


def test_checks_cross() -> None:
    cloth = checks(RED, BLUE, 0.5, RED)(X, Y)
    assert np.allclose(cloth, np.swapaxes(cloth, 0, 1))
    assert len(np.unique(cloth[..., 0].round(2))) >= 4


def test_dots_are_staggered() -> None:
    on = dots(RED, BLUE, 0.4, 0.25)(X, Y)[..., 2] > 0.45
    assert on.mean() == pytest.approx(np.pi * 0.25**2, rel=0.1)
    assert not np.array_equal(on[:40, :160], on[40:80, :160])
    assert np.array_equal(on[:40], on[80:120])


def test_light_falls_on_the_side_that_faces_it() -> None:
    region = board().fill(ellipse((0, 0), 0.8, 0.8))
    light = rounded_light(region, 8.0, (-1.0, 0.0), 0.3)
    middle = light.shape[0] // 2
    assert light[middle, 4:10].mean() > light[middle, -10:-4].mean() + 0.1
    assert light[middle, middle] == pytest.approx(1.0, abs=0.05)


def test_a_fold_is_dark_on_one_side_and_light_on_the_other() -> None:
    region = board().fill(ellipse((0, 0), 0.9, 0.9))
    fold = creases(region, [(0.0, -0.7, 0.0, 0.7, 0.1, 0.5)])
    assert fold.shape == region.coverage.shape
    row = fold[fold.shape[0] // 2]
    assert row.max() > 0.1
    assert row.min() < -0.1
    assert abs(fold[2]).max() < 0.02, "it fades out at its ends"


def test_prints_stay_on_the_product_and_vary() -> None:
    areas = set()
    for seed in range(20):
        canvas = board()
        whole = canvas.fill(ellipse((0, 0), 0.5, 0.9))
        canvas.paint(whole, RED)
        before = canvas.coverage.copy()
        print_motif(canvas, whole, (0.0, 0.0), 1.4, np.random.default_rng(seed), RED)
        assert np.array_equal(canvas.coverage, before)
        changed = np.abs(canvas.premultiplied - RED * before[..., None]).max(axis=-1) > 0.05
        assert changed.sum() > 100
        areas.add(int(changed.sum()))
    assert len(areas) > 5
