"""Checks the properties that every synthesis must have, and draws pictures for it."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.synthesis.defects import Synthesis

Image = NDArray[np.uint8]


def product_on_white(height: int, width: int, level: int = 40) -> Image:
    image = np.full((height, width, 3), 255, np.uint8)
    image[height // 4 : -(height // 4), width // 4 : -(width // 4)] = level
    return image


def disc_on_white(side: int, radius: float, colour: tuple[int, int, int] = (30, 90, 160)) -> Image:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)[..., None]
    return np.rint(255 - alpha * (255 - np.array(colour))).astype(np.uint8)


@st.composite
def pictures(draw: st.DrawFn, smallest: int = 16, largest: int = 130) -> Image:
    """Draw products on white, flat tones no brighter than 235, white, black or noise, of any aspect ratio."""
    height, width = draw(st.integers(smallest, largest)), draw(st.integers(smallest, largest))
    kind = draw(st.sampled_from(["product", "flat", "white", "black", "noise"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "product":
        return product_on_white(height, width, int(rng.integers(230)))
    colour = {"flat": rng.integers(0, 236, 3), "white": 255, "black": 0}[kind]
    return np.full((height, width, 3), colour, np.uint8)


def change(before: Image, after: Image) -> NDArray[np.int64]:
    """Return the largest difference of a channel, (H, W)."""
    return np.abs(after.astype(np.int64) - before).max(axis=-1)


def checked(synthesis: Synthesis, image: Image, seed: int) -> Image:
    """Apply the synthesis, check the properties that hold for all, and return the result."""
    before = image.copy()
    made = synthesis(image, np.random.default_rng(seed))
    assert np.array_equal(image, before), "the input was written to"
    assert not np.shares_memory(made, image)
    assert made.dtype == np.uint8
    assert made.shape == image.shape
    image.flags.writeable = False
    again = synthesis(image, np.random.default_rng(seed))
    assert np.array_equal(made, again), "the same seed gave other pixels"
    return made
