"""Fit Gaussian mixtures to a photo's weighted pixels: the colour models of product and surroundings.

With thousands of pixels, few components and several rounds per photo, all sums use the monomials of the features
(x_i x_j, x_i, 1): the E-step and the M-step of EM (Dempster et al., 1977) are then one matrix product each.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Rounds of k-means that seed a mixture.
SEEDING_ROUNDS = 3
#: Components with a smaller share of the weight get a wide shape: too few pixels define their own.
EMPTY_SHARE = 1e-3


class Pixels:
    """Features x (N, d) float64 of N pixels, and their monomials."""

    def __init__(self, x: Array) -> None:
        self.x = x - x.mean(axis=0)  # small numbers, whose squares lose no digits
        self.upper = np.triu_indices(x.shape[1])
        turned = self.x.T  # sums and maxima over the few components are fast where pixels lie side by side
        self.monomials = np.concatenate(
            [turned[self.upper[0]] * turned[self.upper[1]], turned, np.ones((1, len(x)))]
        )


class Mixture:
    """A mixture of at most `count` Gaussians with full covariances, of pixels weighted by `weights` (N,) > 0.

    variance: added to each covariance's diagonal, in squared units of the features: differences below its root do not
    separate colours. Nothing is random: the result depends on the arguments alone.
    """

    def __init__(self, pixels: Pixels, weights: Array, count: int, variance: float) -> None:
        self._pixels, self._variance = pixels, variance
        self._maximise(weights, self._seed(weights, min(count, len(pixels.x))))

    def fit(self, weights: Array, rounds: int) -> None:
        """Continue with `rounds` of EM on `weights` (N,)."""
        for _ in range(rounds):
            logs = self._component_logs()
            share = np.exp(logs - logs.max(axis=0))
            self._maximise(weights, share / share.sum(axis=0))

    def log_density(self) -> Array:
        """Return the log density at each pixel (N,), up to a constant that all mixtures over `pixels` share."""
        logs = self._component_logs()
        top = logs.max(axis=0)
        return top + np.log(np.exp(logs - top).sum(axis=0))

    def _component_logs(self) -> Array:
        return self._coefficients @ self._pixels.monomials

    def _seed(self, weights: Array, count: int) -> Array:
        """Return hard shares (count, N) by k-means, whose centres start at the mean, then far from the earlier ones.

        "Far" is the 95th percentile of the distances among pixels of large weight: the farthest is an outlier.
        """
        x = self._pixels.x
        heavy = x[weights >= 0.5 * weights.max()]
        centres = [weights @ x / weights.sum()]
        distance = np.full(len(heavy), np.inf)
        for _ in range(count - 1):
            distance = np.minimum(distance, ((heavy - centres[-1]) ** 2).sum(axis=1))
            far = np.argpartition(distance, int(0.95 * (len(heavy) - 1)))[int(0.95 * (len(heavy) - 1))]
            centres.append(heavy[far])
        centre = np.array(centres)
        for _ in range(SEEDING_ROUNDS):
            nearest = ((centre**2).sum(axis=1) - 2 * x @ centre.T).argmin(axis=1)
            share = (nearest == np.arange(count)[:, None]).astype(np.float64)
            mass = share @ weights
            sums = (share * weights) @ x
            centre = np.where(mass[:, None] > 0, sums / np.maximum(mass, 1e-12)[:, None], centre)
        return share

    def _maximise(self, weights: Array, share: Array) -> None:
        """Run the M-step for shares (count, N): weights, means and precisions become the monomials' coefficients."""
        d = self._pixels.x.shape[1]
        i, j = self._pixels.upper
        sums = (share * weights) @ self._pixels.monomials.T
        mass = sums[:, -1] + 1e-9 * weights.sum()
        mean = sums[:, -1 - d : -1] / mass[:, None]
        covariance = np.empty((len(mass), d, d))
        covariance[:, i, j] = covariance[:, j, i] = sums[:, : -1 - d] / mass[:, None]
        covariance -= mean[:, :, None] * mean[:, None, :]
        covariance += self._variance * np.eye(d)
        covariance[mass < EMPTY_SHARE * mass.sum()] = 10 * self._variance * np.eye(d)
        precision = np.linalg.inv(covariance)
        pull = np.einsum("kij,kj->ki", precision, mean)
        constant = np.log(mass / mass.sum()) - 0.5 * np.linalg.slogdet(covariance)[1]
        constant -= 0.5 * (mean * pull).sum(axis=1)
        quadratic = precision[:, i, j] * np.where(i == j, -0.5, -1.0)
        self._coefficients = np.concatenate([quadratic, pull, constant[:, None]], axis=1)
