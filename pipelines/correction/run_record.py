"""What a run came to, and how it is told: run.json and the report."""

import importlib.metadata
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from model.precision import choose_precision
from pipelines import storage
from pipelines.contact_sheet import contact_sheet
from pipelines.correction.assemble import Assembled
from pipelines.correction.config import Plan
from pipelines.correction.pending import Inspection
from pipelines.correction.rows import STRIPS
from pipelines.correction.run_folder import REPORT, RunFolder
from pipelines.correction.survey import Survey
from pipelines.correction.totals import Totals
from pipelines.placement import Placement
from pipelines.report import RunSummary, Strip, write_report
from pipelines.schemas import STATUSES

#: What run.json says while the run works.
RUNNING = "running"
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


def describe(run: Run, state: str) -> dict[str, Any]:
    """The content of run.json. state: RUNNING until all counts are known."""
    night = run.night
    return {
        "state": state,
        "started_at": run.started_at.isoformat(),
        "configuration": run.plan.describe(),
        "config_hash": run.plan.config_hash(run.precision),
        "placement": {**asdict(run.placement), "batch_size": run.batch_size, "precision": run.precision},
        "versions": versions(),
        "run": run.name,
        "rows_in": run.inspection.rows,
        "unchanged": run.inspection.rows - run.inspection.pending if state == RUNNING else run.unchanged,
        "resumed": run.resumed,
        "dropped": run.dropped,
        "detected": run.detected,
        "counts": {status: run.statuses[status] for status in STATUSES},
        "corrected_now": {status: night.statuses[status] for status in STATUSES},
        "counts_by_route": {route: dict(counts) for route, counts in sorted(night.routes.items())},
        "errors": [asdict(error) for error in night.top_errors],
        "profile_issues": dict(sorted(night.profile_issues.items())),
        "fid_missing": run.fid_missing,
        "seconds": run.seconds,
        "core_seconds": dict(run.totals.seconds),
        "images_per_second": run.images_per_second,
    }


def versions() -> dict[str, str]:
    """Of what decides the outputs' bytes."""
    packages = ("catalog-repair", "ray", "torch", "pillow", "pyarrow", "numpy")
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a folder that is not installed
            found[name] = "not installed"
    return {"python": platform.python_version(), **found}


def write_run_report(run: Run) -> None:
    """Write the report's page and picture below OUTPUT/.run."""
    plan, night = run.plan, run.night
    defects = [defect for defect in plan.label_map.defects if defect in night.routes]
    summary = RunSummary(
        counts_by_status={status: night.statuses[status] for status in STATUSES},
        counts_by_defect={defect: night.routes[defect] for defect in defects},
        unchanged=run.unchanged,
        resumed=run.resumed,
        duration_seconds=run.seconds["total"],
        images_per_second=run.images_per_second,
        started_at=run.started_at,
        model_version=plan.bundle.version,
        configuration={**plan.describe(), **asdict(run.placement), "versions": versions()},
        errors=night.top_errors,
        profile=None if plan.delivery.profile is None else plan.delivery.profile.name,
        profile_issues=dict(sorted(night.profile_issues.items())),
        fid=run.fid,
        fid_missing=run.fid_missing,
        strips=_strips(run, defects),
    )
    write_report(run.folder.at(), summary)
    corrected = {
        defect: [strip for strip in strips if strip.rejected is None]
        for defect, strips in summary.strips.items()
    }
    picture = contact_sheet(corrected)
    if picture is not None:
        storage.write_bytes(run.folder.at(REPORT, "before_after.png"), picture)


def _strips(run: Run, defects: list[str]) -> dict[str, list[Strip]]:
    """The report's pictures by defect, ordered by id: at most STRIPS_PER_DEFECT each, one of each id, all of this
    attempt.
    """
    found: dict[str, dict[str, Strip]] = {defect: {} for defect in defects}
    for uri in storage.list_files(run.folder.at(STRIPS, run.attempt), ".parquet"):
        for row in pq.read_table(pa.BufferReader(storage.read_bytes(uri))).to_pylist():
            strips = found.setdefault(row.pop("route"), {})
            strips[row["image_id"]] = Strip(**row)
    return {
        defect: [strips[name] for name in sorted(strips)[:STRIPS_PER_DEFECT]]
        for defect, strips in found.items()
        if strips
    }
