"""Decide doubtful pixels by their neighbours: the random walker with priors (Grady, 2005)."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: The neighbours right, below, and diagonally below: each pair of the eight-neighbourhood once.
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
#: The solver ends when the residual is this share of the right side, or after MAX_STEPS; it starts from the previous
#: round's result.
TOLERANCE, MAX_STEPS = 5e-3, 40


class RandomWalk:
    """The graph of a photo with features (h, w, d): an edge weighs exp(-|difference|^2 / 2 sigma^2) + floor.

    Pixels have eight neighbours; diagonal edges weigh 1 / sqrt 2 of that. floor: weight that remains however much
    neighbours differ; without it a pixel unlike all neighbours is isolated.
    """

    def __init__(self, features: Array, sigma: float, floor: float) -> None:
        # Numba takes a third of a second to import, and not every process that imports this module looks for products.
        from pipelines.saliency.random_walk_kernels import neighbours

        height, width = features.shape[:2]
        self._weights = np.zeros((len(_STEPS), height + 2, width + 2))
        for weights, (down, right) in zip(self._weights, _STEPS, strict=True):
            one = slice(0, height - down), slice(max(0, -right), width - max(0, right))
            other = slice(down, height), slice(max(0, right), width - max(0, -right))
            distance = ((features[one] - features[other]) ** 2).sum(axis=-1)
            inside = weights[1:-1, 1:-1]
            inside[one] = (np.exp(-distance / (2 * sigma**2)) + floor) / np.hypot(down, right)
        self._degrees = np.zeros((height + 2, width + 2))
        neighbours(self._weights, np.ones_like(self._degrees), self._degrees)

    def smooth(self, probability: Array, certainty: Array, strength: float, start: Array) -> Array:
        """Return x (h, w) in [0, 1] that minimises sum certainty (x - probability)^2 + strength x' L x.

        L is the graph's Laplacian. probability, certainty > 0, start (of the solver): (h, w). strength: of neighbours.
        """
        from pipelines.saliency.random_walk_kernels import solved

        diagonal = np.pad(certainty, 1, constant_values=1) + strength * self._degrees
        target, first = (np.pad(plane, 1) for plane in (certainty * probability, start))
        x = solved(strength * self._weights, diagonal, target, first, TOLERANCE, MAX_STEPS)
        return np.clip(x[1:-1, 1:-1], 0, 1)
