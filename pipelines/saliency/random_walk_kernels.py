"""The random walker's solver, compiled; see `random_walk`. All arrays are float64.

Photos are small here: with sparse matrices two thirds of the time went into calls.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.images.compiled import compiled

Planes = NDArray[np.float64]


@compiled
def neighbours(weights: Planes, x: Planes, result: Planes) -> None:
    """Set `result` to the sum of each pixel's eight neighbours, times the weights of the edges between.

    x, result: (h + 2, w + 2), a picture in a frame of zeros, which stays. weights: (4, h + 2, w + 2), of the edges from
    each pixel to the right, down, down to the right and down to the left; 0 outside of the picture.
    """
    right, down, down_right, down_left = weights
    for row in range(1, x.shape[0] - 1):
        for at in range(1, x.shape[1] - 1):
            result[row, at] = (
                right[row, at] * x[row, at + 1]
                + right[row, at - 1] * x[row, at - 1]
                + down[row, at] * x[row + 1, at]
                + down[row - 1, at] * x[row - 1, at]
                + down_right[row, at] * x[row + 1, at + 1]
                + down_right[row - 1, at - 1] * x[row - 1, at - 1]
                + down_left[row, at] * x[row + 1, at - 1]
                + down_left[row - 1, at + 1] * x[row - 1, at + 1]
            )


@compiled
def solved(
    weights: Planes, diagonal: Planes, target: Planes, start: Planes, tolerance: float, most_steps: int
) -> Planes:
    """Return x with `diagonal` x - W x = `target`, by conjugate gradients with Jacobi's preconditioner.

    W sums neighbours by `weights`. All are as in `neighbours`, but the diagonal's frame is 1. Ends when the residual's
    norm is `tolerance` times that of `target`, or after `most_steps`.
    """
    x, product = start.copy(), np.zeros_like(start)
    neighbours(weights, x, product)
    residual = target - (diagonal * x - product)
    direction, before = np.zeros_like(x), 1.0
    limit = tolerance * tolerance * (target * target).sum()
    for _ in range(most_steps):
        if (residual * residual).sum() <= limit:
            break
        scaled = residual / diagonal
        now = (residual * scaled).sum()
        direction = scaled + (now / before) * direction
        before = now
        neighbours(weights, direction, product)
        product = diagonal * direction - product
        step = now / (direction * product).sum()
        x += step * direction
        residual -= step * product
    return x
