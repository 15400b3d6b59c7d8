import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_fid.fid_score import compute_statistics_of_path

from model.errors import ConfigurationError
from pipelines.fid.distance import frechet_distance
from pipelines.fid.statistics import FeatureStatistics, Moments

DIMENSION = 6
NO_CAP = 10_000


def draw(seed: int, n: int, dimension: int = DIMENSION) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).standard_normal((dimension, dimension))
    return (rng.standard_normal((n, dimension)) @ mixing + 0.1 * seed).astype(np.float32)


def names(n: int) -> list[str]:
    return [f"image-{i}" for i in range(n)]


def collect(
    features: np.ndarray,
    ids: list[str] | None = None,
    cuts: tuple[int, ...] = (),
    cap: int = NO_CAP,
    order: int = 0,
) -> FeatureStatistics:
    """The rows as parts between `cuts`, merged in an order drawn from `order` (0: as they come)."""
    bounds = [0, *sorted(cuts), len(features)]
    parts = []
    for low, high in pairwise(bounds):
        part = FeatureStatistics(features.shape[1], cap)
        part.add(features[low:high], None if ids is None else ids[low:high])
        parts.append(part)
    total = FeatureStatistics(features.shape[1], cap)
    shuffled = np.random.default_rng(order).permutation(len(parts)) if order else range(len(parts))
    for i in shuffled:
        total.merge(parts[i])
    return total


CUTS = st.lists(st.integers(0, 40), max_size=5).map(tuple)


@pytest.mark.parametrize("cap", [NO_CAP, 15, 1])
@settings(max_examples=30, deadline=None)
@given(cuts=CUTS, order=st.integers(1, 1000))
def test_merge_order_and_chunking_leave_the_distance(cap: int, cuts: tuple[int, ...], order: int) -> None:
    """Property 23."""
    features, other = draw(0, 40), collect(draw(7, 30))
    plain = frechet_distance(collect(features, names(40), cap=cap), other)
    merged = frechet_distance(collect(features, names(40), cuts, cap, order), other)
    assert merged == pytest.approx(plain, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(cuts=CUTS, order=st.integers(1, 1000))
def test_kept_features_depend_on_the_ids_alone(cuts: tuple[int, ...], order: int) -> None:
    features = draw(0, 40)
    for cap in (NO_CAP, 10):
        expected = collect(features, names(40), cap=cap).features
        assert np.array_equal(collect(features, names(40), cuts, cap, order).features, expected)


@pytest.mark.parametrize("cap", [NO_CAP, 20, 1])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_moments_are_those_of_the_whole_set(cap: int, offset: float) -> None:
    """An offset of many standard deviations: sums in float32 would lose the covariance."""
    features = draw(3, 200) + np.float32(offset)
    statistics = collect(features, cuts=(10, 50, 51, 150), cap=cap)
    exact = features.astype(np.float64)
    assert statistics.n == 200
    np.testing.assert_allclose(statistics.mean(), exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance(), np.cov(exact, rowvar=False), rtol=1e-7, atol=1e-8)


def test_above_the_cap_a_sample_is_kept_and_the_moments_cover_all() -> None:
    features = draw(0, 500)
    statistics = FeatureStatistics(DIMENSION, cap=50)
    for start in range(0, 500, 20):
        statistics.add(features[start : start + 20], names(500)[start : start + 20])
    kept = statistics.features
    assert not statistics.complete
    assert kept.shape == (50, DIMENSION)
    rows = {row.tobytes(): i for i, row in enumerate(features)}
    positions = [rows[row.tobytes()] for row in kept]  # every kept row is one of those added
    assert len(set(positions)) == 50
    assert 150 < np.mean(positions) < 350  # from all over the set, not its beginning
    np.testing.assert_allclose(statistics.mean(), features.mean(axis=0, dtype=np.float64), rtol=1e-10)


def test_merging_leaves_the_other_set_alone_even_where_it_is_the_same() -> None:
    for cap in (NO_CAP, 5):
        part = collect(draw(0, 12), cap=cap)
        total = FeatureStatistics(DIMENSION, cap)
        total.merge(part)
        total.merge(part)
        total.merge(total)
        assert (part.n, total.n) == (12, 48)
        np.testing.assert_allclose(part.mean(), draw(0, 12).mean(axis=0, dtype=np.float64), rtol=1e-10)
        np.testing.assert_allclose(total.mean(), part.mean(), rtol=1e-10)


@pytest.mark.parametrize("cap", [NO_CAP, 8])
@pytest.mark.parametrize("n", [0, 1, 30])
def test_bytes_round_trip(cap: int, n: int) -> None:
    statistics = collect(draw(0, n), names(n), cap=cap)
    restored = FeatureStatistics.from_bytes(statistics.to_bytes())
    assert (restored.n, restored.cap, restored.dimension, restored.complete) == (n, cap, DIMENSION, n <= cap)
    assert np.array_equal(restored.features, statistics.features)
    if n > 1:
        assert np.array_equal(restored.covariance(), statistics.covariance())
    restored.merge(collect(draw(1, 5), cap=cap))
    assert restored.n == n + 5


def test_what_is_not_a_feature_matrix_is_refused() -> None:
    statistics = FeatureStatistics(DIMENSION)
    for wrong in (np.zeros((2, DIMENSION + 1)), np.zeros(DIMENSION), np.full((1, DIMENSION), np.nan)):
        with pytest.raises(ValueError, match="features"):
            statistics.add(wrong)
    with pytest.raises(ValueError, match="ids"):
        statistics.add(np.zeros((2, DIMENSION)), ["one"])
    assert statistics.n == 0
    for other in (FeatureStatistics(DIMENSION + 1), FeatureStatistics(DIMENSION, cap=3)):
        with pytest.raises(ValueError, match="merge"):
            statistics.merge(other)


def test_too_few_samples_have_no_moments() -> None:
    with pytest.raises(ValueError, match="one sample"):
        FeatureStatistics(DIMENSION).mean()
    with pytest.raises(ValueError, match="two samples"):
        collect(draw(0, 1)).covariance()


def test_npz_is_read_by_pytorch_fid_and_back(tmp_path: Path) -> None:
    statistics = collect(draw(0, 30))
    path = tmp_path / "reference.npz"
    path.write_bytes(statistics.to_npz())
    mu, sigma = compute_statistics_of_path(str(path), None, 1, DIMENSION, "cpu")
    assert np.array_equal(mu, statistics.mean())
    assert np.array_equal(sigma, statistics.covariance())
    moments = Moments.from_npz(path.read_bytes(), "reference.npz", DIMENSION)
    assert np.array_equal(moments.mean(), mu)
    np.testing.assert_allclose(moments.covariance(), sigma, rtol=1e-12)


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 not a zip",
        npz(mu=np.zeros(2)),
        npz(mu=np.zeros(3), sigma=np.eye(3)),
        npz(mu=np.zeros(2), sigma=np.eye(3)),
        npz(mu=np.array([0, np.nan]), sigma=np.eye(2)),
        npz(mu=np.zeros(2), sigma=np.array([[1.0, 0.5], [0.0, 1.0]])),
        npz(mu=np.array(["a", "b"]), sigma=np.eye(2)),
        npz(mu=np.array([None, None]), sigma=np.eye(2)),  # a pickle inside
    ],
    ids=["empty", "no zip", "no sigma", "other dimension", "unequal", "nan", "asymmetric", "text", "pickle"],
)
def test_other_npz_content_is_a_configuration_error_that_names_the_file(data: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"statistics/shoes\.npz"):
        Moments.from_npz(data, "statistics/shoes.npz", dimension=2)
