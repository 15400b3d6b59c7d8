"""Gaussian mixtures over a photo's pixels, fitted to soft weights: the colour models of product and surroundings.

Thousands of pixels, few components, several rounds per photo: all sums go through the monomials of the features
(x_i x_j, x_i, 1), so that the E-step and the M-step of EM (Dempster et al., 1977) are one matrix product each.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Rounds of k-means that seed a mixture.
SEEDING_ROUNDS = 3
#: Components with a smaller share of the weight carry no shape of their own: theirs becomes wide.
EMPTY_SHARE = 1e-3


class Pixels:
    """Features x (N, d) float64 of N pixels, and their monomials."""

    def __init__(self, x: Array) -> None:
        self.x = x - x.mean(axis=0)  # small numbers: squares lose no digits
        self.upper = np.triu_indices(x.shape[1])
        self.monomials = np.concatenate(
            [self.x[:, self.upper[0]] * self.x[:, self.upper[1]], self.x, np.ones((len(x), 1))], axis=1
        )


class Mixture:
    """A mixture of at most `count` Gaussians with full covariances, of pixels weighted by `weights` (N,) > 0.

    variance: added to each covariance's diagonal, in squared units of the features: what differs by less than its root
    is one colour. The result is a function of its arguments alone: nothing is drawn.
    """

    def __init__(self, pixels: Pixels, weights: Array, count: int, variance: float) -> None:
        self._pixels, self._variance = pixels, variance
        self._maximise(weights, self._seed(weights, min(count, len(pixels.x))))

    def fit(self, weights: Array, rounds: int) -> None:
        """`rounds` of EM on `weights` (N,), from where the mixture is."""
        for _ in range(rounds):
            logs = self._component_logs()
            share = np.exp(logs - logs.max(axis=1, keepdims=True))
            self._maximise(weights, share / share.sum(axis=1, keepdims=True))

    def log_density(self) -> Array:
        """Log of the density at each pixel (N,), up to a constant that is the same for all mixtures over `pixels`."""
        logs = self._component_logs()
        top = logs.max(axis=1)
        return top + np.log(np.exp(logs - top[:, None]).sum(axis=1))

    def _component_logs(self) -> Array:
        return self._pixels.monomials @ self._coefficients

    def _seed(self, weights: Array, count: int) -> Array:
        """Hard shares (N, count) by k-means, which starts at the mean and then far from the centres before.

        Far is the 95th percentile of the distances among well-weighted pixels: the farthest is an outlier.
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
            share = np.eye(count)[nearest]
            mass = weights @ share
            sums = (share * weights[:, None]).T @ x
            centre = np.where(mass[:, None] > 0, sums / np.maximum(mass, 1e-12)[:, None], centre)
        return share

    def _maximise(self, weights: Array, share: Array) -> None:
        """The M-step. Keeps log weights, means and precisions as coefficients of the monomials."""
        d = self._pixels.x.shape[1]
        i, j = self._pixels.upper
        sums = (share * weights[:, None]).T @ self._pixels.monomials
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
        self._coefficients = np.concatenate([quadratic, pull, constant[:, None]], axis=1).T
