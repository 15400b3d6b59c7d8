import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_fid.fid_score import compute_statistics_of_path

from model.errors import ConfigurationError
from pipelines.metrics.fid.distance import frechet_distance
from pipelines.metrics.fid.statistics import FeatureSet, Moments

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
) -> FeatureSet:
    """Return the rows as parts between `cuts`, merged in an order drawn from `order` (0: the given order)."""
    bounds = [0, *sorted(cuts), len(features)]
    parts = []
    for low, high in pairwise(bounds):
        part = FeatureSet(features.shape[1], cap)
        part.add(features[low:high], None if ids is None else ids[low:high])
        parts.append(part)
    total = FeatureSet(features.shape[1], cap)
    shuffled = np.random.default_rng(order).permutation(len(parts)) if order else range(len(parts))
    for i in shuffled:
        total.merge(parts[i])
    return total


CUTS = st.lists(st.integers(0, 40), max_size=5).map(tuple)


@settings(max_examples=30, deadline=None)
@given(cuts=CUTS, order=st.integers(1, 1000))
def test_features_depend_on_the_ids_alone(cuts: tuple[int, ...], order: int) -> None:
    """The distance depends neither on order nor on division (property 23)."""
    features = draw(0, 40)
    for cap in (NO_CAP, 15, 1):
        expected = collect(features, names(40), cap=cap)
        merged = collect(features, names(40), cuts, cap, order)
        assert np.array_equal(merged.features, expected.features)
        assert (merged.n, merged.added) == (min(40, cap), 40)


def test_up_to_the_cap_all_are_kept() -> None:
    features = draw(0, 200)
    kept = collect(features, cuts=(10, 50, 51, 150)).features
    assert kept.dtype == np.float32
    assert sorted(row.tobytes() for row in kept) == sorted(row.tobytes() for row in features)


def test_above_the_cap_a_sample_is_kept() -> None:
    features = draw(0, 500)
    statistics = FeatureSet(DIMENSION, cap=50)
    for start in range(0, 500, 20):
        statistics.add(features[start : start + 20], names(500)[start : start + 20])
    assert (statistics.n, statistics.added, statistics.features.shape) == (50, 500, (50, DIMENSION))
    rows = {row.tobytes(): i for i, row in enumerate(features)}
    positions = [rows[row.tobytes()] for row in statistics.features]  # every kept row is one of those added
    assert len(set(positions)) == 50
    assert 150 < np.mean(positions) < 350  # from the whole set, not only its beginning


def test_merging_leaves_the_other_set_alone() -> None:
    part = collect(draw(0, 12))
    total = FeatureSet(DIMENSION, NO_CAP)
    total.merge(part)
    total.merge(part)
    assert (part.n, total.n) == (12, 24)


def test_anything_but_a_feature_matrix_is_refused() -> None:
    statistics = FeatureSet(DIMENSION)
    for wrong in (np.zeros((2, DIMENSION + 1)), np.zeros(DIMENSION), np.full((1, DIMENSION), np.nan)):
        with pytest.raises(ValueError, match="features"):
            statistics.add(wrong)
    with pytest.raises(ValueError, match="ids"):
        statistics.add(np.zeros((2, DIMENSION)), ["one"])
    assert (statistics.n, statistics.features.shape) == (0, (0, DIMENSION))


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_statistics_that_pytorch_fid_saves_are_read_and_compare_with_features(
    tmp_path: Path, offset: float
) -> None:
    """With an offset of many standard deviations, float32 would lose the covariance."""
    features = draw(3, 60) + np.float32(offset)
    exact = features.astype(np.float64)
    path = tmp_path / "reference.npz"
    path.write_bytes(npz(mu=exact.mean(axis=0), sigma=np.cov(exact, rowvar=False)))
    mu, sigma = compute_statistics_of_path(str(path), None, 1, DIMENSION, "cpu")
    moments = Moments.from_npz(path.read_bytes(), "reference.npz", DIMENSION)
    assert np.array_equal(moments.mu, mu)
    np.testing.assert_allclose(moments.sigma, sigma, rtol=1e-12)
    assert frechet_distance(collect(features), moments) == pytest.approx(0, abs=1e-6)


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
