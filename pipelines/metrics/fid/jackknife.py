"""Intervals for FID, and for figures computed from several FIDs: the delete-a-group jackknife.

A bootstrap is not suitable. Its resamples repeat images, which lowers the rank of a small set's covariance: with fewer
images than dimensions, every resample's FID is above the set's own. Leaving images out repeats none.

The photos are divided into `GROUPS` groups by a hash of their ids, spread evenly over every set. FID's bias depends on
the number of images; if that varied between groups, it would look like chance. Every figure is computed again without
each group. All sets leave out the same photos at once (an upload, its corrections by every model, its target). Shared
chance is thus accounted for, and a difference or ratio of two models' figures has an interval of its own, often much
narrower than theirs.

The interval covers the chance in which photos were drawn, for this number of photos; by Efron and Stein (1981) the
variance errs upward. It does not cover FID's bias, which depends on the number of images and which all rows of one
table share.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import stdtrit

from pipelines.contracts.hashing import hash_number
from pipelines.metrics.fid.distance import Gaussian, gaussian_distance, gaussian_of

#: More groups give a steadier interval (Student's quantile is 2.26 at 10 and 2.09 at 20) at the cost of more FIDs.
GROUPS = 10


def photo_groups(photos: Mapping[str, tuple[Any, ...]], groups: int = GROUPS) -> dict[str, int]:
    """Return each photo's group, 0 to groups-1, which does not depend on the order of `photos`.

    photos: stratum of each photo, such as the defects that it shows; strata must be sortable. Sizes of groups differ by
    at most one, in total and within every stratum. Use no more groups than photos: an empty group would make the
    interval too wide.
    """
    ordered = sorted(photos, key=lambda photo: (photos[photo], hash_number("jackknife", photo), photo))
    return {photo: rank % groups for rank, photo in enumerate(ordered)}


def left_out(features: np.ndarray, groups: np.ndarray, count: int) -> list[Gaussian | None]:
    """Return the set's normal distribution, then those without group 0, 1, …, count-1.

    features: float (n,d); groups: int (n,), each image's group. An entry is None if fewer than two images are left. At
    d=2048 and count 10 this takes 30 KB per image up to 2,048 images, and 370 MB from there on.
    """
    kept = [np.ones(len(groups), bool), *(groups != group for group in range(count))]
    return [gaussian_of(features[chosen]) if chosen.sum() > 1 else None for chosen in kept]


def distances(a: list[Gaussian | None], b: list[Gaussian | None]) -> np.ndarray:
    """Return the FID of two sets, then those without each group: float64 (1+groups,). NaN if a distribution is None.

    Each takes milliseconds below some hundred images. Above 2,048 each takes the singular values of a 2048x2048 matrix,
    about 10 s on one core, so two minutes for all.
    """
    return np.array(
        [np.nan if x is None or y is None else gaussian_distance(x, y) for x, y in zip(a, b, strict=True)]
    )


def jackknife_ci95(estimates: np.ndarray) -> tuple[float, float] | None:
    """Return the 95% interval of `estimates[0]`; `estimates[1:]` are the values without each group.

    It is `estimate ± t·se`, with `se² = (g−1)/g · Σ(θ_i − mean θ)²` and Student's t at g−1 degrees of freedom. Returns
    None if a value is not finite (a set is too small to leave a group out).
    """
    replicates = estimates[1:]
    count = len(replicates)
    if count < 2 or not np.isfinite(estimates).all():
        return None
    variance = (count - 1) / count * np.square(replicates - replicates.mean()).sum()
    half = float(stdtrit(count - 1, 0.975) * np.sqrt(variance))
    return float(estimates[0]) - half, float(estimates[0]) + half
