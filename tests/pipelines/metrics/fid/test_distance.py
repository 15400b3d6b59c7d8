import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_fid.fid_score import calculate_frechet_distance

from pipelines.metrics.fid.distance import frechet_distance
from pipelines.metrics.fid.statistics import FeatureSet, Moments

DIMENSION = 16
Form = Callable[[np.ndarray], FeatureSet | Moments]


def kept(features: np.ndarray) -> FeatureSet:
    """Return the statistics of images."""
    statistics = FeatureSet(features.shape[1])
    statistics.add(features)
    return statistics


def moments(features: np.ndarray) -> Moments:
    """Return the statistics as read from a `.npz`."""
    buffer = io.BytesIO()
    np.savez(buffer, mu=features.mean(0, dtype=np.float64), sigma=np.cov(features, rowvar=False))
    return Moments.from_npz(buffer.getvalue(), "test", features.shape[1])


FORMS = pytest.mark.parametrize("form", [kept, moments])
#: Fewer samples than dimensions (singular), as many, and more.
SIZES = pytest.mark.parametrize("n", [5, DIMENSION, 60])


def draw(seed: int, n: int, dimension: int = DIMENSION, scale: float = 1.0) -> np.ndarray:
    """Return correlated features, float32; each seed has another covariance."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((dimension, dimension)) * np.geomspace(1, 0.01, dimension)
    return (scale * rng.standard_normal((n, dimension)) @ mixing + rng.standard_normal(dimension)).astype(
        np.float32
    )


@FORMS
@SIZES
def test_a_set_is_at_distance_zero_from_itself(form: Form, n: int) -> None:
    """Property 22, relative to the spread, because the distance is a difference of terms of that size."""
    features = draw(0, n)
    distance = frechet_distance(form(features), form(features))
    assert 0 <= distance < 1e-4
    assert distance < 1e-5 * np.trace(np.cov(features, rowvar=False))


@FORMS
@SIZES
def test_symmetry(form: Form, n: int) -> None:
    a, b = draw(1, n), draw(2, 40)
    assert frechet_distance(form(a), form(b)) == pytest.approx(frechet_distance(form(b), form(a)), rel=1e-6)


@FORMS
@SIZES
@settings(max_examples=20, deadline=None)
@given(shift=st.lists(st.integers(-64, 64), min_size=DIMENSION, max_size=DIMENSION))
def test_a_shift_adds_its_squared_length(form: Form, n: int, shift: list[int]) -> None:
    """Features are on a grid of 1/256, so that shifting does not round."""
    features = np.round(draw(3, n) * 256) / 256
    t = np.array(shift) / 4
    distance = frechet_distance(form(features), form((features + t).astype(np.float32)))
    assert distance == pytest.approx(t @ t, rel=1e-5, abs=1e-4)


@FORMS
@SIZES
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_orthogonal_maps_leave_the_distance(form: Form, n: int, seed: int) -> None:
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((DIMENSION, DIMENSION)))
    a, b = draw(4, n), draw(5, n)
    turned = frechet_distance(form((a @ q).astype(np.float32)), form((b @ q).astype(np.float32)))
    assert turned == pytest.approx(frechet_distance(form(a), form(b)), rel=1e-4)


@given(
    a=st.lists(st.floats(0, 100), min_size=3, max_size=3),
    b=st.lists(st.floats(0, 100), min_size=3, max_size=3),
)
def test_commuting_covariances_have_a_closed_form(a: list[float], b: list[float]) -> None:
    """For diagonal covariances, the distance is the sum of squared differences of standard deviations."""
    mu = np.zeros(3)
    distance = frechet_distance(Moments(mu, np.diag(a)), Moments(mu, np.diag(b)))
    assert distance == pytest.approx(np.square(np.sqrt(a) - np.sqrt(b)).sum(), rel=1e-6, abs=1e-4)


@pytest.mark.parametrize(("n", "m"), [(20, 30), (20, 500), (500, 20), (500, 400), (2, 3)])
def test_parity_with_pytorch_fid(n: int, m: int) -> None:
    """Property 24, with singular covariances (64 dimensions) and without, in every form."""
    a, b = draw(6, n, 64), draw(7, m, 64, scale=1.5)
    expected = calculate_frechet_distance(
        a.mean(0, dtype=np.float64),
        np.cov(a, rowvar=False),
        b.mean(0, dtype=np.float64),
        np.cov(b, rowvar=False),
    )
    for form_a in (kept, moments):
        for form_b in (kept, moments):
            assert frechet_distance(form_a(a), form_b(b)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("n", "m"), [(10, 12), (10, 50), (50, 40)])
def test_the_nuclear_norm_equals_the_eigenvalue_route(n: int, m: int) -> None:
    """tr √(S1 S2) from kept features equals that from the eigenvalues of S1^½ S2 S1^½."""
    a, b = draw(8, n).astype(np.float64), draw(9, m).astype(np.float64)
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(s1)
    root = vectors * np.sqrt(np.where(values > 1e-12 * values[-1], values, 0)) @ vectors.T
    trace = np.sqrt(np.clip(np.linalg.eigvalsh(root @ s2 @ root), 0, None)).sum()
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s1) + np.trace(s2) - 2 * trace
    assert frechet_distance(kept(a), kept(b)) == pytest.approx(expected, rel=1e-5)


@FORMS
def test_constant_sets_are_at_the_distance_of_their_means(form: Form) -> None:
    a, b = np.zeros((4, 3), np.float32), np.full((5, 3), 2, np.float32)
    assert frechet_distance(form(a), form(b)) == pytest.approx(12.0)


def test_sets_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        frechet_distance(kept(np.zeros((3, 4))), kept(np.zeros((3, 5))))
    with pytest.raises(ValueError, match="two samples"):
        frechet_distance(kept(np.zeros((1, 4))), kept(np.zeros((3, 4))))
