"""FID from features: this project's distance against that of pytorch-fid, in the same run on one core.

    python -m tests.benchmarks.fid_distance [--images 2000]

The features are drawn: not negative, 2048 to an image, with a spectrum that falls as that of Inception's does.
"""

import argparse
import sys
import warnings

import numpy as np
import torch
from pytorch_fid.fid_score import calculate_frechet_distance

from pipelines.metrics.fid.distance import gaussian_distance, gaussian_of
from tests.benchmarks.timing import timed

DIMENSION = 2048


def features(images: int, shift: float, seed: int) -> np.ndarray:
    """Return features float32 (images, DIMENSION); sets of the same seed differ in their mean by `shift`."""
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(DIMENSION, DIMENSION)))[0]
    axes *= np.arange(1, DIMENSION + 1) ** -0.9 * 3
    noise = np.random.default_rng(seed).normal(size=(images, DIMENSION))
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


def main() -> None:
    """Print seconds of a core, their ratio and the relative difference of the results."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images", type=int, default=2000, help="in each set")
    count = p.parse_args().images
    torch.set_num_threads(1)
    sets = features(count, 0.0, 1), features(count, 2.0, 2)
    (one, fast), (other, slow) = timed(lambda: ours(*sets)), timed(lambda: theirs(*sets))
    sys.stdout.write(
        f"FID of {count} and {count} images: {fast:.2f} s of a core, pytorch-fid {slow:.2f} s: {slow / fast:.1f} times "
        f"as fast; relative difference {abs(one - other) / other:.1e}\n"
    )


if __name__ == "__main__":
    main()
