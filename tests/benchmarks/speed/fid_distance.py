"""FID from features: this project's distance against that of pytorch-fid, on one core.

The features are drawn: not negative, 2048 to an image, with a spectrum that falls as that of Inception's does.
"""

import warnings

import numpy as np
import torch
from pytorch_fid.fid_score import calculate_frechet_distance

from pipelines.metrics.fid.distance import gaussian_distance, gaussian_of
from pipelines.metrics.fid.inception import FEATURE_DIMENSION
from tests.benchmarks.speed.ratio import Ratio
from tests.benchmarks.timing import timed


def ratios(small: bool) -> list[Ratio]:
    """Return how many times faster this project computes the distance of two sets."""
    count = 200 if small else 2000
    torch.set_num_threads(1)
    sets = features(count, 0.0, 1), features(count, 2.0, 2)
    (one, fast), (other, slow) = timed(lambda: ours(*sets)), timed(lambda: theirs(*sets))
    figures = {"core_s": fast, "pytorch_fid_core_s": slow, "relative_difference": abs(one - other) / other}
    what = f"FID of two sets of {count:,} images from their features, times faster"
    return [Ratio(what, "pytorch-fid's distance", slow / fast, 20, figures=figures)]


def features(images: int, shift: float, seed: int) -> np.ndarray:
    """Return features float32 (images, 2048); sets of the same seed differ in their mean by `shift`."""
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(FEATURE_DIMENSION, FEATURE_DIMENSION)))[0]
    axes *= np.arange(1, FEATURE_DIMENSION + 1) ** -0.9 * 3
    noise = np.random.default_rng(seed).normal(size=(images, FEATURE_DIMENSION))
    return np.maximum(0.35 + shift * axes[5] + noise @ axes.T, 0).astype(np.float32)


def ours(one: np.ndarray, other: np.ndarray) -> float:
    """Return the FID as reports compute it."""
    return gaussian_distance(gaussian_of(one), gaussian_of(other))


def theirs(one: np.ndarray, other: np.ndarray) -> float:
    """Return the FID as pytorch-fid computes it from the same features."""
    moments = [part for rows in (one, other) for part in (rows.mean(axis=0), np.cov(rows, rowvar=False))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the root of a singular matrix
        return float(calculate_frechet_distance(*moments))
