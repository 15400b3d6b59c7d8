"""Keeps the bundle that validation scored best: a folder OUTPUT/best/step-N, and OUTPUT/best.json, which points to it.

The folder is written first and the pointer, one object, after it. So after a crash at any moment, the folder that
best.json names is complete.
"""

import json
import logging
import math
from dataclasses import asdict, dataclass

from pipelines import storage

logger = logging.getLogger("train")

POINTER, FOLDER = "best.json", "best"


@dataclass(frozen=True)
class Best:
    """Hold the content of best.json. bundle: folder below OUTPUT. score: value of `metric`; lower is better."""

    bundle: str
    step: int
    metric: str
    score: float


def read_best(output: str) -> Best | None:
    """Return the best bundle so far, or None. Raises one of storage.STORAGE_ERRORS."""
    uri = storage.join(output, POINTER)
    try:
        content = json.loads(storage.read_bytes(uri))
        return Best(
            str(content["bundle"]), int(content["step"]), str(content["metric"]), float(content["score"])
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        logger.warning("%s is damaged: the next validation counts as the best", uri)
        return None


def would_be_best(output: str, metric: str, score: float) -> bool:
    """Return True if `score` beats the best so far. A best score of another metric is ignored."""
    best = read_best(output)
    return math.isfinite(score) and (best is None or best.metric != metric or score < best.score)


def folder_for(output: str, step: int) -> str:
    """Return the folder below OUTPUT for the bundle of `step`.

    It is never the folder that best.json points to: a training that went back to an earlier checkpoint reaches the
    same step again.
    """
    folder, best = f"{FOLDER}/step-{step:06d}", read_best(output)
    return f"{folder}-again" if best is not None and best.bundle == folder else folder


def point_to(output: str, best: Best) -> None:
    """Record a written bundle as the best one, and remove all others. Raises one of storage.STORAGE_ERRORS."""
    storage.write_bytes(storage.join(output, POINTER), json.dumps(asdict(best)).encode())
    best_folder = storage.join(output, FOLDER)
    folders = {uri.rsplit("/", 2)[-2] for uri in storage.list_files(best_folder)}
    for name in folders - {best.bundle.rsplit("/", 1)[-1]}:
        storage.remove(storage.join(best_folder, name))


def forget_best(output: str) -> None:
    """Remove the best bundle of an earlier training in the same folder. Raises one of storage.STORAGE_ERRORS."""
    storage.remove(storage.join(output, POINTER))  # first: it must never point to a missing folder
    storage.remove(storage.join(output, FOLDER))
