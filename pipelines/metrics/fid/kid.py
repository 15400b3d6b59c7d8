"""Kernel Inception Distance (Bińkowski et al., 2018): unbiased MMD² with the kernel `k(a,b) = (a·b/d + 1)³`.

Unlike FID, its expectation does not depend on the number of images, so use it for small sets.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

SUBSETS = 100
SUBSET_SIZE = 1000
#: Rows of the kernel matrix held at once: 512 x 10,000 float64 are 40 MB.
_BLOCK = 512


@dataclass(frozen=True)
class Kid:
    """An estimate of MMD²; it may be slightly negative if the distributions agree."""

    mean: float  # over the subsets
    sd: float  # between the subsets, as in published tables; not an error bar: 0 if a subset is the whole set
    ci95: tuple[float, float] | None  # 95% confidence interval of MMD²; None below three samples in a set


def kernel_inception_distance(x: np.ndarray, y: np.ndarray, seed: int = 0) -> Kid:
    """Return the KID of two sets of features, float (n,d) and (m,d), n and m at least 2.

    The mean and sd are over 100 pairs of subsets, min(1000, n) of x and min(1000, m) of y, drawn without replacement.

    The interval is `mean ± t·se`. `se²` is the sum of two variances, by the law of total variance: the two-sample
    jackknife variance of the estimate on all images (leaving out one image of either set), and sd²/100 for drawing
    subsets. So it stays valid if a subset is the whole set and the sd is zero. The jackknife errs upward, most if the
    distributions agree. t is Student's quantile at min(n, m) − 1 degrees of freedom.

    The interval covers the chance in which images were drawn, corrected and reference alike. It does not cover images
    that depend on each other (several of one listing), a reference unlike the desired corrections, or preprocessing.
    Two overlapping intervals do not mean equal sets: before and after share their reference and products.

    Raises ValueError for fewer than two rows or unequal dimensions.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"KID needs two rows or more on each side and equal dimensions, not {x.shape} and {y.shape}"
        )
    x, y = x.astype(np.float64), y.astype(np.float64)
    rng = np.random.default_rng(seed)
    in_x, in_y = _membership(rng, n), _membership(rng, m)
    size_x, size_y = min(n, SUBSET_SIZE), min(m, SUBSET_SIZE)

    xx, rows_x, _ = _kernel_sums(x, x, in_x, in_x)
    yy, rows_y, _ = _kernel_sums(y, y, in_y, in_y)
    xy, cross_x, cross_y = _kernel_sums(x, y, in_x, in_y)
    diagonal_x, diagonal_y = _kernel((x * x).sum(1), x.shape[1]), _kernel((y * y).sum(1), y.shape[1])
    estimates = (
        (xx - diagonal_x @ in_x) / (size_x * (size_x - 1))
        + (yy - diagonal_y @ in_y) / (size_y * (size_y - 1))
        - 2.0 * xy / (size_x * size_y)
    )
    mean, sd = float(estimates.mean()), float(estimates.std(ddof=1))
    if min(n, m) < 3:
        return Kid(mean, sd, None)
    variance = _jackknife(rows_x - diagonal_x, cross_x, m) + _jackknife(rows_y - diagonal_y, cross_y, n)
    half = float(stdtrit(min(n, m) - 1, 0.975) * np.sqrt(variance + sd**2 / SUBSETS))
    return Kid(mean, sd, (mean - half, mean + half))


def _membership(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return float64 (n, SUBSETS) of zeros and ones: column s marks subset s."""
    marks = np.zeros((n, SUBSETS))
    for column in marks.T:
        column[rng.permutation(n)[:SUBSET_SIZE]] = 1.0
    return marks


def _kernel(products: np.ndarray, dimension: int) -> np.ndarray:
    return (products / dimension + 1.0) ** 3


def _kernel_sums(
    a: np.ndarray, b: np.ndarray, in_a: np.ndarray, in_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sums of the kernel matrix of `a` (n,d) and `b` (m,d): per subset, per row, per column."""
    subsets, rows, columns = np.zeros(SUBSETS), np.empty(len(a)), np.zeros(len(b))
    for start in range(0, len(a), _BLOCK):
        part = slice(start, start + _BLOCK)
        kernel = _kernel(a[part] @ b.T, a.shape[1])  # (<=512, m)
        subsets += (in_a[part] * (kernel @ in_b)).sum(0)
        rows[part] = kernel.sum(1)
        columns += kernel.sum(0)
    return subsets, rows, columns


def _jackknife(within: np.ndarray, cross: np.ndarray, others: int) -> float:
    """Return the jackknife variance of MMD² from leaving out each of one set's n images.

    `within` (n,): sums of its kernel with the set's other images; `cross` (n,): with the `others` images of the other
    set.
    """
    n = len(within)
    left_out = (within.sum() - 2.0 * within) / ((n - 1) * (n - 2)) - 2.0 * (cross.sum() - cross) / (
        (n - 1) * others
    )
    return float((n - 1) / n * np.square(left_out - left_out.mean()).sum())
