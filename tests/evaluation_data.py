"""Makes measures, sets and scores for the tests of evaluation, without any network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.evaluation.contestants import Contestant
from pipelines.evaluation.measure import ANSWER, MEASURES, TARGET, TRAIN_TARGET, UPLOAD

CONDITIONS = {"wrong_angle": (1, 2), "watermark": (0, 1), "non_white_background": (0, 0)}


class Extractor:
    """Stand for the FID network: compute 4 features that differ from image to image."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        self.images += len(images)
        rows = [[*image[: len(image) // 3].reshape(-1, 3).mean(0), image.std()] for image in images]
        return np.array(rows, np.float32).reshape(-1, 4) / 64


def contestant(name: str, *defects: str, **changes: Any) -> Contestant:
    """Return a contestant that knows these defects, or all three if none are given."""
    conditions = {defect: CONDITIONS[defect] for defect in defects or CONDITIONS}
    settings = {"uri": f"/{name}", "version": "v" * 64, "recipe": "proposed", "image_size": 32, **changes}
    return Contestant(name=name, conditions=conditions, **settings)


def measure(row: int, kind: str, features: Sequence[float] | None = None, **columns: Any) -> dict[str, Any]:
    """Return a row of MEASURES; row and photo have the same number."""
    return {
        "row": f"part#{row:09}",
        "image_id": f"p{row}",
        "defect": "watermark",
        "kind": kind,
        "bundle": -1,
        "features": None if features is None else np.array(features, np.float32).tobytes(),
        **columns,
    }


def measures(
    seed: int = 0, photos: int = 40, bundles: Sequence[float] = (0.5,), train: int = 50, **columns: Any
) -> pa.Table:
    """Return a defect's images: uploads are 1 from their targets, outputs of bundle i are `bundles[i]` from them."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(photos):
        target = rng.standard_normal(4)
        rows.append(measure(index, TARGET, target))
        distances = [(UPLOAD, -1, 1.0), *((ANSWER, number, away) for number, away in enumerate(bundles))]
        for kind, bundle, away in distances:
            features = target + away + 0.1 * rng.standard_normal(4)
            rows.append(measure(index, kind, features, bundle=bundle, psnr=30 - away, l1=away / 10))
    rows += [measure(1000 + index, TRAIN_TARGET, rng.standard_normal(4)) for index in range(train)]
    return pa.Table.from_pylist([{**row, **columns} for row in rows], MEASURES)
