import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.metrics.fid.distance import frechet_distance
from pipelines.metrics.fid.jackknife import GROUPS, distances, jackknife_ci95, left_out, photo_groups
from pipelines.metrics.fid.statistics import FeatureSet


def draw(rng: np.random.Generator, n: int, dimension: int, shift: float = 0.0) -> np.ndarray:
    return rng.standard_normal((n, dimension)) * np.geomspace(1, 0.1, dimension) + shift


def fid(a: np.ndarray, b: np.ndarray) -> float:
    sets = [FeatureSet(a.shape[1]) for _ in range(2)]
    for statistics, features in zip(sets, (a, b), strict=True):
        statistics.add(features)
    return frechet_distance(*sets)


@given(
    st.dictionaries(
        st.text("abc", max_size=4), st.sampled_from([("a",), ("a", "b"), ("b",)]), min_size=1, max_size=50
    ),
    st.integers(1, 7),
    st.randoms(),
)
def test_groups_have_equal_sizes_also_within_each_defect_in_any_order(
    photos: dict[str, tuple[str, ...]], groups: int, random: object
) -> None:
    shuffled = list(photos)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assigned = photo_groups({photo: photos[photo] for photo in shuffled}, groups)
    assert assigned == photo_groups(photos, groups)
    for defects in (set("ab"), {"a"}, {"b"}):
        some = [assigned[photo] for photo in photos if defects & set(photos[photo])]
        sizes = np.bincount(some, minlength=groups)
        assert sizes.max() - sizes.min() <= 1


def test_each_estimate_is_the_fid_without_one_group() -> None:
    rng = np.random.default_rng(0)
    a, b = draw(rng, 9, 6), draw(rng, 12, 6, shift=0.5)
    of_a, of_b = np.arange(9) % 3, np.arange(12) % 3
    estimates = distances(left_out(a, of_a, 3), left_out(b, of_b, 3))
    expected = [fid(a, b), *(fid(a[of_a != group], b[of_b != group]) for group in range(3))]
    np.testing.assert_allclose(estimates, expected, rtol=1e-4, atol=1e-5)  # statistics keep float32


def test_a_set_too_small_to_leave_a_group_out_has_a_distance_and_no_interval() -> None:
    rng = np.random.default_rng(0)
    groups = np.array([0, 0, 1])
    estimates = distances(
        left_out(draw(rng, 3, 4), groups, 2), left_out(draw(rng, 30, 4), np.arange(30) % 2, 2)
    )
    assert np.isfinite(estimates[0])
    assert np.isnan(estimates[1])  # one image left
    assert jackknife_ci95(estimates) is None
    assert np.isnan(
        distances(
            left_out(draw(rng, 1, 4), np.array([0]), 2),
            left_out(a := draw(rng, 9, 4), np.arange(len(a)) % 2, 2),
        )[0]
    )


def test_for_a_mean_it_is_the_textbook_interval() -> None:
    """Leaving single values out of a mean gives exactly s²/n."""
    values = np.random.default_rng(1).standard_normal(12)
    means = np.array([values.mean(), *(np.delete(values, index).mean() for index in range(12))])
    low, high = jackknife_ci95(means)  # type: ignore[misc]
    half = 2.200985 * values.std(ddof=1) / np.sqrt(12)  # Student's t at 11 degrees of freedom
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(("n", "dimension"), [(60, 8), (30, 64)])
def test_intervals_cover_the_fid_of_other_photos(n: int, dimension: int, paired: bool) -> None:
    """The mean FID over many draws is in 95% of the intervals, also with fewer images than dimensions.

    A bootstrap's intervals would all be above it there.
    """
    rng = np.random.default_rng(n)
    runs = []
    for _ in range(100):
        b = draw(rng, n, dimension)
        a = b + 0.3 * draw(rng, n, dimension, shift=1.0) if paired else draw(rng, n, dimension, shift=0.3)
        groups = np.arange(n) % GROUPS
        runs.append(distances(left_out(a, groups, GROUPS), left_out(b, groups, GROUPS)))
    mean = np.mean([run[0] for run in runs])
    intervals = np.array([jackknife_ci95(run) for run in runs])
    covered = ((intervals[:, 0] <= mean) & (mean <= intervals[:, 1])).mean()
    assert covered >= 0.88
    spread = np.std([run[0] for run in runs])
    width = np.mean(intervals[:, 1] - intervals[:, 0]) / 2 / 2.26
    assert width < 2 * spread  # not too wide to be useful
