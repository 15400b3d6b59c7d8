"""Scores a bundle on the test split with the code of jobs/evaluate.py."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.evaluation import job
from pipelines.evaluation.config import EvaluationConfig, resolve
from pipelines.evaluation.score import FLOOR, NOTHING, Score

#: Names of the rows of a result: the bundle's answers, and those that are the same for all bundles.
ANSWERS = "answers"
SHARED_ROWS = {NOTHING: "nothing", FLOOR: "floor"}


def score(bundle: Path, data: list[Path], output: Path, fid: bool) -> list[dict[str, Any]]:
    """Return a row per defect for the answers of a bundle, for doing nothing and, if `data` has targets for it, the
    floor.

    Each has the columns of table.json, and `fid_left_out`: FID without each of the jackknife's groups of photos. With
    these, two bundles can be compared later, photo by photo.
    """
    config = EvaluationConfig(
        data=tuple(str(folder) for folder in data),
        bundles=(str(bundle),),
        output=str(output),
        fid=fid,
        workers=0,
        overwrite=True,
        cleans_backgrounds=False,  # the same for all rows, told the label or not
    )
    return [_row(one) for one in job.run(resolve(config)).rows]


def _row(one: Score) -> dict[str, Any]:
    row = one.to_json()
    left_out = [] if one.fid is None else np.asarray(one.fid)[1:].tolist()
    return {
        **row,
        "name": SHARED_ROWS.get(one.name, ANSWERS),
        "fid_left_out": [None if not math.isfinite(fid) else round(fid, 3) for fid in left_out],
    }
