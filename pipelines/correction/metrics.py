"""Reports a correction as metrics (see `pipelines.cluster.metrics`), once per block of rows.

Counted on the driver, from the summaries of blocks: a task that is tried again counts once.
"""

import itertools
import time
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.cluster import metrics
from pipelines.contracts.error_codes import FAILED, REJECTED
from pipelines.contracts.schemas import STATUSES
from pipelines.correction.inspect.image_check import ImageCheck
from pipelines.correction.inspect.survey import CLEAN, CURRENT, UNKNOWN, defect_of

_STEPS = ("decode", "generator", "commit")


def start(defects: Iterable[str]) -> None:
    """Start all counters at 0. defects: those of the label map."""
    for status, route in itertools.product(STATUSES, (*defects, CLEAN, UNKNOWN)):
        metrics.start("images", status=status, defect=route)
    for code in (*FAILED, *REJECTED):
        metrics.start("errors", code=code)
    for step in _STEPS:
        metrics.start("step_seconds", step=step)
    metrics.start("read_bytes")
    metrics.start("written_bytes")


def pending(rows: int) -> None:
    """Report the number of rows that still need work."""
    metrics.put("pending_images", rows)


def report(summary: Mapping[str, Any], left: int) -> None:
    """Report a block. summary: row of SUMMARY. left: rows that still need work."""
    for route in summary["routes"]:
        if not route["route"].endswith(CURRENT):  # the same images again
            for status in STATUSES:
                metrics.count("images", route[status], status=status, defect=defect_of(route["route"]))
    for error in summary["errors"]:
        metrics.count("errors", error["count"], code=error["code"])
    for step in _STEPS:
        metrics.count("step_seconds", summary[f"{step}_seconds"], step=step)
    metrics.count("read_bytes", summary["read_bytes"])
    metrics.count("written_bytes", summary["written_bytes"])
    pending(left)


def checked_images(output: str, check: ImageCheck | None) -> None:
    """Report how many images of earlier runs over `output` are gone. check: what was found, if any were looked for."""
    if check is not None:
        metrics.put("missing_images", check.missing, output=output)


def succeeded(output: str) -> None:
    """Report that a run over `output` has succeeded."""
    metrics.put("last_success_timestamp_seconds", time.time(), output=output)
