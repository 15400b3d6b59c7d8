import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipelines.metrics.fid import kid
from pipelines.metrics.fid.kid import kernel_inception_distance


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    return float((a @ b / len(a) + 1) ** 3)


def double_loop(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased MMD², written out."""
    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 12), m=st.integers(2, 12), seed=st.integers(0, 1000))
def test_it_matches_a_double_loop(n: int, m: int, seed: int) -> None:
    """Property 25."""
    rng = np.random.default_rng(seed)
    x, y = rng.random((n, 5)), rng.random((m, 5)) + 0.3
    estimate = kernel_inception_distance(x, y)
    assert estimate.mean == pytest.approx(double_loop(x, y), rel=1e-9, abs=1e-12)
    assert estimate.sd == pytest.approx(0, abs=1e-12)  # each subset is the whole set


def test_its_expectation_is_zero_for_identical_distributions() -> None:
    """Property 25: the mean of 300 independent estimates is within four of its standard errors of 0."""
    estimates = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        estimates.append(kernel_inception_distance(rng.random((20, 4)), rng.random((30, 4))).mean)
    assert abs(np.mean(estimates)) < 4 * np.std(estimates) / np.sqrt(len(estimates))
    assert min(estimates) < 0  # unbiased, so not clipped


def test_subsets_of_large_sets_average_to_the_estimate_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((30, 4)), rng.random((25, 4)) + 0.2
    monkeypatch.setattr(kid, "SUBSETS", 4000)
    monkeypatch.setattr(kid, "SUBSET_SIZE", 8)
    estimate = kernel_inception_distance(x, y)
    assert estimate.sd > 0
    assert estimate.mean == pytest.approx(double_loop(x, y), abs=4 * estimate.sd / np.sqrt(4000))


def test_a_kernel_matrix_in_several_blocks_gives_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((1100, 4)), rng.random((30, 4)) + 0.2
    expected = kernel_inception_distance(x, y)
    monkeypatch.setattr(kid, "_BLOCK", 2000)
    in_one_block = kernel_inception_distance(x, y)
    assert expected.mean == pytest.approx(in_one_block.mean, rel=1e-9)
    assert expected.sd == pytest.approx(in_one_block.sd, rel=1e-6)
    assert expected.ci95 == pytest.approx(in_one_block.ci95, rel=1e-9)


def test_the_same_seed_gives_the_same_figures_and_another_seed_other_subsets() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((1010, 3)), rng.random((40, 3)) + 0.2
    assert kernel_inception_distance(x, y, seed=1) == kernel_inception_distance(x, y, seed=1)
    assert kernel_inception_distance(x, y, seed=1).mean != kernel_inception_distance(x, y, seed=2).mean


@settings(max_examples=10, deadline=None)
@given(n=st.integers(3, 9), m=st.integers(3, 9), seed=st.integers(0, 1000))
def test_the_interval_is_that_of_the_jackknife(n: int, m: int, seed: int) -> None:
    """Compare with estimates that leave out each image in turn."""
    rng = np.random.default_rng(seed)
    x, y = rng.random((n, 5)), rng.random((m, 5)) + 0.3
    variance = 0.0
    for count, estimates in (
        (n, [double_loop(np.delete(x, i, 0), y) for i in range(n)]),
        (m, [double_loop(x, np.delete(y, i, 0)) for i in range(m)]),
    ):
        variance += (count - 1) * np.var(estimates)
    half = stats.t.ppf(0.975, min(n, m) - 1) * np.sqrt(variance)
    estimate = kernel_inception_distance(x, y)
    assert estimate.ci95 == pytest.approx((estimate.mean - half, estimate.mean + half), rel=1e-6)


@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_the_interval_covers_the_truth_and_is_not_too_wide(
    gap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets of 100 are from two distributions of eight points each, whose MMD² is a finite sum."""
    monkeypatch.setattr(kid, "SUBSETS", 2)  # all of them are the whole set here
    rng = np.random.default_rng(5)
    points_x, points_y = rng.random((8, 6)), rng.random((8, 6)) * (gap > 0) + gap
    if gap == 0:
        points_y = points_x
    means = [
        np.mean([kernel(a, b) for a in p for b in q]) for p, q in ((points_x, points_x), (points_y, points_y))
    ]
    truth = sum(means) - 2 * np.mean([kernel(a, b) for a in points_x for b in points_y])
    covered, widths, estimates = 0, [], []
    for _ in range(200):
        estimate = kernel_inception_distance(
            points_x[rng.integers(0, 8, 100)], points_y[rng.integers(0, 8, 100)]
        )
        assert estimate.ci95 is not None
        covered += estimate.ci95[0] <= truth <= estimate.ci95[1]
        widths.append(estimate.ci95[1] - estimate.ci95[0])
        estimates.append(estimate.mean)
    assert covered >= 184  # 190 expected; fewer than 184 has a probability below 1%
    assert np.mean(widths) < 2 * 4 * np.std(estimates)  # at most about twice as wide as necessary


def test_tiny_sets() -> None:
    rng = np.random.default_rng(0)
    assert kernel_inception_distance(rng.random((2, 3)), rng.random((9, 3))).ci95 is None
    for x, y in ((rng.random((1, 3)), rng.random((9, 3))), (rng.random((5, 3)), rng.random((5, 4)))):
        with pytest.raises(ValueError, match="KID"):
            kernel_inception_distance(x, y)
