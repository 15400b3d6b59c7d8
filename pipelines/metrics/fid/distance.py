"""Frechet distance between two sets of features (Dowson and Landau, 1982; as FID: Heusel et al., 2017).

`d² = |μ₁−μ₂|² + tr S₁ + tr S₂ − 2 tr √(S₁S₂)`. With factors `S = FᵀF` the last trace is the sum of the singular values
of `F₁F₂ᵀ`. This avoids the square root of a nearly singular matrix, and complex numbers.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.metrics.fid.statistics import FeatureSet, Moments

#: Eigenvalues of a covariance below this share of the largest are rounding errors of a singular matrix.
EIGENVALUE_FLOOR = 1e-12


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution with covariance FᵀF."""

    mean: np.ndarray  # float64 (d,)
    factor: np.ndarray  # F, float64 (r,d), r <= d


def gaussian(images: FeatureSet | Moments) -> Gaussian:
    """Return the normal distribution with a set's moments. It takes seconds at d=2048, so call it once per set.

    Raises ValueError for a set of fewer than two images.
    """
    if isinstance(images, FeatureSet):
        return gaussian_of(images.features)
    values, vectors = np.linalg.eigh(images.sigma)  # ascending
    kept = values > EIGENVALUE_FLOOR * max(values[-1], 0.0)
    return Gaussian(images.mu, np.sqrt(values[kept])[:, None] * vectors[:, kept].T)


def gaussian_of(features: np.ndarray) -> Gaussian:
    """Return the normal distribution of features, float (n,d), computed in float64. Raises ValueError for fewer than
    two.

    F is the centred features over √(n−1), or its triangular factor if n > d. It is exact also for n < d.
    """
    n, dimension = features.shape
    if n < 2:
        raise ValueError("a covariance needs at least two samples")
    mean = np.asarray(features.mean(axis=0, dtype=np.float64))
    centred = (features - mean) / np.sqrt(n - 1)
    return Gaussian(mean, np.asarray(np.linalg.qr(centred, mode="r")) if n > dimension else centred)


def gaussian_distance(a: Gaussian, b: Gaussian) -> float:
    """Return the squared Frechet distance, >= 0."""
    difference = a.mean - b.mean
    spread = np.square(a.factor).sum() + np.square(b.factor).sum()
    cross = _sum_of_singular_values(a.factor @ b.factor.T)
    return max(float(difference @ difference + spread - 2.0 * cross), 0.0)


def _sum_of_singular_values(matrix: np.ndarray) -> float:
    """Return the trace norm, to about 1e-8 of the largest singular value for each of them.

    The roots of the eigenvalues of a product with itself take 0.4 of the time of a decomposition into singular values.
    """
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(matrix @ matrix.T), 0.0)).sum())


def frechet_distance(a: FeatureSet | Moments, b: FeatureSet | Moments) -> float:
    """Return the FID of two sets. Raises ValueError for fewer than two samples or unequal dimensions."""
    if a.dimension != b.dimension:
        raise ValueError(f"{a.dimension} against {b.dimension} dimensions")
    return gaussian_distance(gaussian(a), gaussian(b))
