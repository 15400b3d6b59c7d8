"""The state of a correction run, which its stages share and fill."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import torch

from model.precision import choose_precision
from pipelines.cluster import logs, metrics
from pipelines.cluster.placement import Placement
from pipelines.correction.inspect.image_check import ImageCheck
from pipelines.correction.inspect.pending import Inspection
from pipelines.correction.inspect.survey import Survey
from pipelines.correction.models import Models
from pipelines.correction.plan import Plan
from pipelines.correction.publish.assemble import Assembled
from pipelines.correction.stream.totals import Totals
from pipelines.published.changes import Changes
from pipelines.published.layout import RunFolder

#: Errors after which a task is tried again.
RETRIED = ["StorageReadError", "StorageWriteError", "DecoderStartError"]
#: Fewest bytes per block: every block costs the engine's one scheduler tens of milliseconds.
SMALLEST_BLOCK = 1 << 20
#: Pictures per defect in the report.
STRIPS_PER_DEFECT = 12
#: Images per pass of the generator. A GPU and a CPU's matrix units need many; a core in float32 does not. At 256 pixels
#: an image took 400 ms in batches of two, but 500 ms in batches of eight, beyond the cache; at 128 pixels always 90 ms.
_GPU_BATCH, _BFLOAT16_BATCH, _FLOAT32_BATCH = 32, 8, 2


def cpu_batch(bfloat16: bool) -> int:
    """Return the images per pass of a generator on a CPU, which computes in bfloat16 or in float32."""
    return _BFLOAT16_BATCH if bfloat16 else _FLOAT32_BATCH


@dataclass
class Run:
    """A run: its settings, and the results so far.

    attempt: name of this attempt's folders. seconds: wall time by stage.
    """

    plan: Plan
    placement: Placement
    started_at: datetime
    name: str
    attempt: str = ""
    inspection: Inspection = field(default_factory=lambda: Inspection(Survey(0)))
    totals: Totals = field(default_factory=Totals)  # of this attempt
    night: Totals = field(default_factory=Totals)  # of all attempts since the last manifest
    assembled: Assembled | None = None  # the next manifest
    manifest: str | None = None  # name of the run that made what will be the manifest
    changes: Changes = field(default_factory=Changes)  # between the last manifest and the next
    statuses: Mapping[str, int] = field(default_factory=Counter)  # of the manifest's rows
    dropped: int = 0  # rows of the last manifest that are not in this one
    fid: dict[str, Any] | None = None
    fid_missing: str | None = None
    images_check: ImageCheck | None = None  # of the last manifest's images; None: nothing was looked for
    detected: dict[str, int] | None = None  # the detector's counts, see `detect.COUNTS`
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """URI of the output folder."""
        return self.plan.config.output

    @property
    def folder(self) -> RunFolder:
        """Folder of everything before it is published."""
        return RunFolder(self.output)

    @property
    def unchanged(self) -> int:
        """Number of rows that needed no work, because an earlier run had done them."""
        return self.inspection.rows - self.night.rows

    @property
    def resumed(self) -> int:
        """Number of rows that killed attempts had finished before they could publish."""
        return self.night.rows - self.totals.rows

    @property
    def too_many_failed(self) -> bool:
        """True if more rows of the manifest failed than --max-failed tolerates."""
        return self.statuses["failed"] > self.plan.config.max_failed * self.inspection.rows

    @property
    def images_per_second(self) -> float | None:
        """Rows read per second of the correcting stage's wall time; None if no row had to be read."""
        rows, seconds = self.totals.rows + self.totals.refreshed, self.seconds.get("correct")
        return rows / seconds if rows and seconds else None

    @property
    def generators(self) -> Placement:
        """Placement of the actors that hold the generator; detectors and FID use `placement`."""
        return self.placement.beside_tasks()

    @property
    def precision(self) -> str:
        """Precision of the generator, decided once, so that all actors compute alike."""
        chosen = choose_precision(self.plan.config.precision, torch.device(self.placement.device))
        return "bfloat16" if chosen == torch.bfloat16 else "float32"

    @property
    def models(self) -> Models:
        """The bundles that correct."""
        return self.plan.models(self.precision)

    @property
    def batch_size(self) -> int:
        """Images per pass of the generator."""
        if self.plan.config.batch_size is not None:
            return self.plan.config.batch_size
        if self.placement.device == "cuda":
            return _GPU_BATCH
        return cpu_batch(self.precision == "bfloat16")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the wall time of a stage, also of one that fails, and name it in the log."""
        started, logs.context.stage = time.perf_counter(), name
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - started
            metrics.put("stage_seconds", self.seconds[name], stage=name)
        logs.context.stage = None
