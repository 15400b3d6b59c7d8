"""Saliency (a stand-in until the real one is here)."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigurationError


class Saliency(Protocol):
    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]: ...


def load_saliency(name: str, device: str = "cpu") -> Saliency:
    if name != "classical":
        raise ConfigurationError(f"--saliency {name}: unknown")

    def call(images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        return [
            (np.abs(image.astype(int) - image[0, 0]).max(axis=-1) > 30).astype(np.float32) for image in images
        ]

    return call
