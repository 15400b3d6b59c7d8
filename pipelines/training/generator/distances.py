"""Computes FID and KID per defect against real images. Slow to import, so imported only where it is used."""

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.metrics.fid.distance import frechet_distance
from pipelines.metrics.fid.inception import FEATURE_DIMENSION, load_features
from pipelines.metrics.fid.kid import kernel_inception_distance
from pipelines.metrics.fid.statistics import FeatureSet
from pipelines.metrics.fid.weights import locate_weights
from pipelines.training.feed.selected import Rows


class Distances:
    """Hold the features of the real images, by defect, and compare outputs with them."""

    def __init__(self, weights: str | None, device: torch.device, real: Rows) -> None:
        """weights: see `locate_weights`, whose errors this raises. real: rows whose `target` is the real image."""
        self._extract = load_features(locate_weights(weights), device)
        self._real: dict[str, FeatureSet] = {}
        for defect in {row["defect"] for row in real}:
            self._real[defect] = self._features([row["target"] for row in real if row["defect"] == defect])

    def __call__(self, defect: str, outputs: NDArray[np.uint8]) -> dict[str, float]:
        """Return n_reference, fid, kid and kid_sd of the outputs, uint8 (N, S, S, 3).

        With fewer than two images on a side, only n_reference.
        """
        real, made = self._real.get(defect), self._features(list(outputs))
        if real is None or min(made.n, real.n) < 2:
            return {"n_reference": 0 if real is None else real.n}
        kid = kernel_inception_distance(made.features, real.features)
        return {"n_reference": real.n, "fid": frechet_distance(made, real), "kid": kid.mean, "kid_sd": kid.sd}

    def _features(self, images: list[NDArray[np.uint8]]) -> FeatureSet:
        features = FeatureSet(FEATURE_DIMENSION)
        features.add(self._extract(images))
        return features
