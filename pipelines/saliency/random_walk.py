"""Doubtful pixels decided by their neighbours: the random walker with priors (Grady, 2005)."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg

Array = NDArray[np.float64]

#: Right, down, and both diagonals: each pair of the eight-neighbourhood once.
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
#: Solving ends when the residual is this share of the right side, or after so many steps: it begins where the round
#: before ended.
TOLERANCE, MAX_STEPS = 1e-3, 80


class RandomWalk:
    """The graph of a photo with features (h, w, d): neighbours are tied by exp(-|difference|^2 / 2 sigma^2) + floor.

    floor: what ties neighbours however much they differ; without it a pixel that is like no neighbour hangs in the air.
    """

    def __init__(self, features: Array, sigma: float, floor: float) -> None:
        height, width = features.shape[:2]
        index = np.arange(height * width).reshape(height, width)
        rows, columns, ties = [], [], []
        for down, right in _STEPS:
            one = slice(0, height - down), slice(max(0, -right), width - max(0, right))
            other = slice(down, height), slice(max(0, right), width - max(0, -right))
            distance = ((features[one] - features[other]) ** 2).sum(axis=-1)
            ties.append(((np.exp(-distance / (2 * sigma**2)) + floor) / np.hypot(down, right)).ravel())
            rows.append(index[one].ravel())
            columns.append(index[other].ravel())
        size = height * width
        upper = sparse.csr_matrix(
            (np.concatenate(ties), (np.concatenate(rows), np.concatenate(columns))), (size, size)
        )
        tied = upper + upper.T
        self._laplacian = (sparse.diags(np.asarray(tied.sum(axis=1)).ravel()) - tied).tocsr()

    def smooth(self, probability: Array, certainty: Array, strength: float, start: Array) -> Array:
        """x (h, w) in [0, 1] that minimises sum certainty (x - probability)^2 + strength x' L x, L the Laplacian.

        probability, certainty > 0, start (where the solver begins): (h, w). strength: how much neighbours count.
        """
        system = sparse.diags(certainty.ravel()) + strength * self._laplacian
        jacobi = sparse.diags(1 / system.diagonal())
        found, _ = cg(
            system.tocsr(),
            (certainty * probability).ravel(),
            x0=start.ravel(),
            rtol=TOLERANCE,
            maxiter=MAX_STEPS,
            M=jacobi,
        )
        return np.clip(found, 0, 1).reshape(probability.shape)
