"""A run of the correction: what it works with, and what it came to."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import torch

from model.precision import choose_precision
from pipelines.cluster.placement import Placement
from pipelines.correction.inspect.pending import Inspection
from pipelines.correction.inspect.survey import Survey
from pipelines.correction.layout import RunFolder
from pipelines.correction.plan import Plan
from pipelines.correction.publish.assemble import Assembled
from pipelines.correction.stream.totals import Totals

#: Errors of tasks that are tried again.
RETRIED = ["StorageReadError", "StorageWriteError", "DecoderStartError"]
#: Bytes per block at least: every block costs the engine's one scheduler tens of milliseconds.
SMALLEST_BLOCK = 1 << 20
#: Pictures per defect in the report.
STRIPS_PER_DEFECT = 12
#: Images in a pass of the generator: a GPU and a CPU's matrix units need many to be filled. A core in float32 does
#: not: at 256 pixels two took 400 ms each and eight 500, beyond its cache; at 128 pixels all took 90.
_GPU_BATCH, BFLOAT16_BATCH, _FLOAT32_BATCH = 32, 8, 2


@dataclass
class Run:
    """What a run came to.

    interrupted: an earlier attempt was killed. attempt: names the folders of what this one writes. seconds: wall time
    by stage.
    """

    plan: Plan
    placement: Placement
    started_at: datetime
    name: str
    interrupted: bool = False
    attempt: str = ""
    inspection: Inspection = field(default_factory=lambda: Inspection(Survey(0)))
    totals: Totals = field(default_factory=Totals)  # of what this run has corrected itself
    night: Totals = field(
        default_factory=Totals
    )  # with what killed attempts had finished: all since the last manifest
    assembled: Assembled | None = None  # the next manifest
    statuses: Mapping[str, int] = field(default_factory=Counter)  # of the manifest's rows
    dropped: int = 0  # rows of the last manifest that are not in this one
    fid: dict[str, Any] | None = None
    fid_missing: str | None = None
    detected: dict[str, int] | None = None  # what the detector saw; see `detect.COUNTS`
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """Where everything is written."""
        return self.plan.config.output

    @property
    def folder(self) -> RunFolder:
        """Where everything is before it is published."""
        return RunFolder(self.output)

    @property
    def unchanged(self) -> int:
        """Rows that needed no correction, because an earlier run had done them."""
        return self.inspection.rows - self.night.rows

    @property
    def resumed(self) -> int:
        """Rows that attempts had finished which were killed before they could publish."""
        return self.night.rows - self.totals.rows

    @property
    def too_many_failed(self) -> bool:
        """True above the tolerated share of failures in the manifest (--max-failed)."""
        return self.statuses["failed"] > self.plan.config.max_failed * self.inspection.rows

    @property
    def images_per_second(self) -> float | None:
        """Rows that were read over the wall time of the correcting stage; None where nothing was to be read."""
        rows = self.totals.rows + self.totals.refreshed
        return rows / self.seconds["correct"] if rows else None

    @property
    def precision(self) -> str:
        """Decided once, here: every actor must compute alike."""
        chosen = choose_precision(self.plan.config.precision, torch.device(self.placement.device))
        return "bfloat16" if chosen == torch.bfloat16 else "float32"

    @property
    def batch_size(self) -> int:
        """Images in a pass of the generator."""
        if self.plan.config.batch_size is not None:
            return self.plan.config.batch_size
        if self.placement.device == "cuda":
            return _GPU_BATCH
        return BFLOAT16_BATCH if self.precision == "bfloat16" else _FLOAT32_BATCH

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started
