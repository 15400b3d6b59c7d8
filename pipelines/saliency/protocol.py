"""The interface of saliency models."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Saliency(Protocol):
    """A model that returns soft masks of the product in photos of any sizes."""

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Return masks (H, W) float32 in [0, 1], 1 for product, of photos (H, W, 3) uint8 RGB, in their order.

        A photo's mask does not depend on the others of the call. Raises ValueError for arrays of another
        shape or type.
        """
        ...


def check_photos(images: Sequence[NDArray[np.uint8]]) -> None:
    """Raise ValueError unless every photo is uint8 (H, W, 3) with at least one pixel."""
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ValueError(f"saliency takes uint8 (H, W, 3), not {image.dtype} {image.shape}")
