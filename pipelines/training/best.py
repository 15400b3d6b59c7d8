"""The bundle that validation scored best: a folder OUTPUT/best/step-N, and OUTPUT/best.json, which points to it.

The folder is written first and the pointer, one object, after it: whatever dies meanwhile, the folder that best.json
names is whole.
"""

import json
import logging
import math
from dataclasses import asdict, dataclass

from pipelines.storage import objects as storage

logger = logging.getLogger("train")

POINTER, FOLDER = "best.json", "best"


@dataclass(frozen=True)
class Best:
    """The content of best.json. bundle: folder below OUTPUT. score: of `metric`, lower is better."""

    bundle: str
    step: int
    metric: str
    score: float


def read_best(output: str) -> Best | None:
    """The best bundle so far, or None. Raises one of storage.STORAGE_ERRORS."""
    uri = storage.join(output, POINTER)
    try:
        found = json.loads(storage.read_bytes(uri))
        return Best(str(found["bundle"]), int(found["step"]), str(found["metric"]), float(found["score"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        logger.warning("%s is damaged: the next validation counts as the best", uri)
        return None


def would_be_best(output: str, metric: str, score: float) -> bool:
    """Whether `score` beats the best so far; that of another metric does not compare."""
    best = read_best(output)
    return math.isfinite(score) and (best is None or best.metric != metric or score < best.score)


def folder_for(output: str, step: int) -> str:
    """Folder below OUTPUT for the bundle of `step`. It is not the one that best.json points to, which a training that
    went back to an earlier checkpoint may have written for the same step.
    """
    folder, best = f"{FOLDER}/step-{step:06d}", read_best(output)
    return f"{folder}-again" if best is not None and best.bundle == folder else folder


def point_to(output: str, best: Best) -> None:
    """Make a bundle that is written the best one, and remove all others. Raises one of storage.STORAGE_ERRORS."""
    storage.write_bytes(storage.join(output, POINTER), json.dumps(asdict(best)).encode())
    everything = storage.join(output, FOLDER)
    folders = {uri.rsplit("/", 2)[-2] for uri in storage.list_files(everything)}
    for name in folders - {best.bundle.rsplit("/", 1)[-1]}:
        storage.remove(storage.join(everything, name))


def forget_best(output: str) -> None:
    """Remove what another training in the same folder has left. Raises one of storage.STORAGE_ERRORS."""
    storage.remove(storage.join(output, POINTER))  # first: it must not point to nothing
    storage.remove(storage.join(output, FOLDER))
