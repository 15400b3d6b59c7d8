"""Decide doubtful pixels by their neighbours: the random walker with priors (Grady, 2005)."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg

Array = NDArray[np.float64]

#: Right, down, and both diagonals: each pair of the eight-neighbourhood once.
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
#: The solver ends when the residual is this share of the right side, or after MAX_STEPS; it starts from the previous
#: round's result.
TOLERANCE, MAX_STEPS = 5e-3, 40


class RandomWalk:
    """The graph of a photo with features (h, w, d): an edge weighs exp(-|difference|^2 / 2 sigma^2) + floor.

    floor: weight that remains however much neighbours differ; without it a pixel unlike all neighbours is isolated.
    """

    def __init__(self, features: Array, sigma: float, floor: float) -> None:
        height, width = features.shape[:2]
        index = np.arange(height * width).reshape(height, width)
        rows, columns, edge_weights = [], [], []
        for down, right in _STEPS:
            one = slice(0, height - down), slice(max(0, -right), width - max(0, right))
            other = slice(down, height), slice(max(0, right), width - max(0, -right))
            distance = ((features[one] - features[other]) ** 2).sum(axis=-1)
            edge_weights.append(
                ((np.exp(-distance / (2 * sigma**2)) + floor) / np.hypot(down, right)).ravel()
            )
            rows.append(index[one].ravel())
            columns.append(index[other].ravel())
        size = height * width
        upper = sparse.csr_matrix(
            (np.concatenate(edge_weights), (np.concatenate(rows), np.concatenate(columns))), (size, size)
        )
        weights = upper + upper.T
        self._laplacian = (sparse.diags(np.asarray(weights.sum(axis=1)).ravel()) - weights).tocsr()

    def smooth(self, probability: Array, certainty: Array, strength: float, start: Array) -> Array:
        """Return x (h, w) in [0, 1] that minimises sum certainty (x - probability)^2 + strength x' L x.

        L is the graph's Laplacian. probability, certainty > 0, start (of the solver): (h, w). strength: of neighbours.
        """
        system = sparse.diags(certainty.ravel()) + strength * self._laplacian
        jacobi = sparse.diags(1 / system.diagonal())
        solution, _ = cg(
            system.tocsr(),
            (certainty * probability).ravel(),
            x0=start.ravel(),
            rtol=TOLERANCE,
            maxiter=MAX_STEPS,
            M=jacobi,
        )
        return np.clip(solution, 0, 1).reshape(probability.shape)
