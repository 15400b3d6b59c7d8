import numpy as np
import pytest

from pipelines.synthesis.products.noise import cloudy, slope_light, smooth_noise, softened


def generator() -> np.random.Generator:
    return np.random.default_rng(5)


def test_noise_is_smooth_at_its_scale_and_random_beyond() -> None:
    field = smooth_noise(generator(), 400, 300, 20, 20)
    assert field.shape == (400, 300)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.15
    assert 0.4 < field.std() < 1.0
    assert np.corrcoef(field[:, :-1].ravel(), field[:, 1:].ravel())[0, 1] > 0.97
    assert abs(np.corrcoef(field[:, :-60].ravel(), field[:, 60:].ravel())[0, 1]) < 0.25


def test_noise_may_be_stretched() -> None:
    field = smooth_noise(generator(), 300, 300, 3, 60)
    down, right = np.abs(np.diff(field, axis=0)).mean(), np.abs(np.diff(field, axis=1)).mean()
    assert down > 5 * right


def test_octaves_add_detail() -> None:
    rough = [np.abs(np.diff(cloudy(generator(), 200, 200, 60, octaves), axis=0)).mean() for octaves in (1, 4)]
    assert rough[1] > 1.5 * rough[0]


@pytest.mark.parametrize("radius", [3.0, 20.0])
def test_softening_keeps_levels_and_spreads_edges(radius: float) -> None:
    flat = np.full((90, 120), 0.7, np.float32)
    assert softened(flat, radius) == pytest.approx(flat, abs=1e-5)
    step = np.zeros((90, 120), np.float32)
    step[:, 60:] = 1.0
    soft = softened(step, radius)
    width = ((soft > 0.1) & (soft < 0.9)).sum(axis=1).mean()
    assert 0.5 * radius < width < 4 * radius
    assert soft.mean() == pytest.approx(0.5, abs=0.02)


def test_slopes_towards_the_light_are_bright() -> None:
    hill = -np.hypot(*np.mgrid[-20:21, -20:21]).astype(np.float32)
    light = slope_light(hill, (-1.0, 0.0))
    assert (light[20, :15] > 0.9).all()
    assert (light[20, 26:] < -0.9).all()
