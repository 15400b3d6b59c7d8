"""Reports figures of running jobs to Prometheus, through the metrics endpoint that Ray has on every node.

Ray exports `NAME` as `ray_catalog_repair_NAME`, a counter with `_total` behind it, every ten seconds and when a process
ends. A counter then stays for as long as the node, a gauge for 20 seconds. Without Ray nothing happens.

Call these functions per block, batch or record, never per row: each call takes microseconds. A label may have only
few values.
"""

import functools
import sys
from typing import Literal, NamedTuple

from ray.util.metrics import Counter, Gauge

#: In front of every name; Ray puts `ray_` in front of that.
PREFIX = "catalog_repair_"


class Definition(NamedTuple):
    """What a metric is. labels: the names of its labels."""

    kind: Literal["counter", "gauge"]
    unit: str
    labels: tuple[str, ...]
    meaning: str


#: All metrics by name. docs/cluster.md has the same table.
METRICS = {
    # of jobs/correct_catalog.py
    "images": Definition("counter", "images", ("status", "defect"), "images that have a result"),
    "errors": Definition("counter", "images", ("code",), "images that failed or were rejected"),
    "read_bytes": Definition("counter", "bytes", (), "uploads that were read to be corrected"),
    "written_bytes": Definition("counter", "bytes", (), "corrected images, journal, samples"),
    "step_seconds": Definition("counter", "seconds", ("step",), "time of one core or GPU, by step"),
    "generator_seconds": Definition(
        "counter", "seconds", ("state",), "time of the generator's actors, `busy` or `idle`"
    ),
    "stage_seconds": Definition("gauge", "seconds", ("stage",), "wall time of a finished stage"),
    "pending_images": Definition("gauge", "images", (), "images that wait for a result"),
    "missing_images": Definition(
        "gauge", "images", ("output",), "images of earlier runs that a run looked for and did not find"
    ),
    "last_success_timestamp_seconds": Definition(
        "gauge", "Unix time", ("output",), "when a run last succeeded"
    ),
    # of jobs/train.py and jobs/train_detector.py
    "training_loss": Definition("gauge", "", ("loss",), "mean since the last record, by loss"),
    "training_images_per_second": Definition("gauge", "images/s", (), "of all workers"),
    "training_step": Definition("gauge", "steps", (), "the present step"),
    "training_steps": Definition("gauge", "steps", (), "the last step, at which the training ends"),
    "training_workers": Definition("gauge", "workers", (), "workers that train at present"),
}


def count(name: str, amount: float, **labels: str) -> None:
    """Add `amount`, 0 or more, to a counter."""
    if amount > 0:
        _counter(name).inc(amount, labels)


def start(name: str, **labels: str) -> None:
    """Start a counter's series at 0, because Prometheus cannot know how much its first value has grown."""
    # Ray refuses 0; the smallest number changes no sum.
    _counter(name).inc(sys.float_info.min, labels)


def put(name: str, value: float, **labels: str) -> None:
    """Set a gauge."""
    _gauge(name).set(value, labels)


@functools.cache
def _counter(name: str) -> Counter:
    definition = METRICS[name]
    return Counter(PREFIX + name, definition.meaning, definition.labels)


@functools.cache
def _gauge(name: str) -> Gauge:
    definition = METRICS[name]
    return Gauge(PREFIX + name, definition.meaning, definition.labels)
