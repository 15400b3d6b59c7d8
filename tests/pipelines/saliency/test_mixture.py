import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from pipelines.saliency.mixture import Mixture, Pixels


def test_one_gaussian_is_the_weighted_mean_and_covariance() -> None:
    random = np.random.default_rng(0)
    x, weights = random.normal(size=(200, 3)) * [1, 5, 2] + [50, -20, 3], random.uniform(0.1, 1, 200)
    found = Mixture(Pixels(x), weights, 1, 0.5).log_density()
    covariance = np.cov(x.T, aweights=weights, ddof=0) + 0.5 * np.eye(3)
    expected = multivariate_normal(np.average(x, axis=0, weights=weights), covariance).logpdf(x)
    assert np.ptp(found - expected) < 1e-6  # up to one constant for all pixels
    assert found.mean() - expected.mean() == pytest.approx(1.5 * np.log(2 * np.pi))


def test_more_gaussians_than_colours_explain_every_colour() -> None:
    x = np.repeat([[0.0, 0], [100, 0], [0, 100]], 50, axis=0)
    mixture = Mixture(Pixels(x), np.ones(150), 5, 1.0)
    mixture.fit(np.ones(150), 3)
    density = mixture.log_density()
    assert np.ptp(density) < 0.1  # equally many of each, and equally tight
    alone = Mixture(Pixels(x), np.ones(150), 1, 1.0)
    assert density.min() > alone.log_density().max() + 3


def test_what_has_no_weight_is_not_explained() -> None:
    x = np.repeat([[0.0, 0], [40, 0]], 50, axis=0)
    weights = np.where(np.arange(100) < 50, 1.0, 1e-6)
    density = Mixture(Pixels(x), weights, 3, 4.0).log_density()
    assert density[:50].min() > density[50:].max() + 5


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 99), st.sampled_from([0.0, 1.0, 300.0]))
def test_any_pixels_have_a_finite_density(pixels: int, count: int, seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    weights = random.uniform(1e-6, 1, pixels)
    mixture = Mixture(Pixels(random.normal(size=(pixels, 4)) * spread), weights, count, 9.0)
    mixture.fit(weights, 3)
    assert np.isfinite(mixture.log_density()).all()
