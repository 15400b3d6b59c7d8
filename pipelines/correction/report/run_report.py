"""The fifth stage of a run: describes it, for its record and for the report page, and writes the page."""

import importlib.metadata
import platform
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.contracts.schemas import by_status
from pipelines.correction.inspect.survey import CANARY, without_canary
from pipelines.correction.report.canary import compare
from pipelines.correction.report.page import RunSummary, write_report
from pipelines.correction.rows import STRIPS
from pipelines.correction.run import STRIPS_PER_DEFECT, Run
from pipelines.published.layout import REPORT
from pipelines.reports.pictures import Strip, contact_sheet


def describe(run: Run) -> dict[str, Any]:
    """Return what is known about a run so far: the content of its record, except for how it ended."""
    night, canary = run.night, compare(run)
    routes = without_canary(night.routes)
    return {
        "started_at": run.started_at.isoformat(),
        "configuration": run.plan.describe(),
        "config_hash": run.models.current.config_hash,
        "placement": {**asdict(run.generators), "batch_size": run.batch_size, "precision": run.precision},
        "versions": versions(),
        "run": run.name,
        "manifest_run": run.manifest,
        "rows_in": run.inspection.rows,
        # Until the next manifest is written, some rows that need work may not be done.
        "unchanged": run.unchanged if run.statuses else run.inspection.rows - run.inspection.pending,
        "resumed": run.resumed,
        "dropped": run.dropped,
        "changes": run.changes.counts,
        "detected": run.detected,
        "images_check": None if run.images_check is None else run.images_check.describe(),
        "counts": by_status(run.statuses),
        "corrected_now": by_status(night.statuses),
        "counts_by_route": {route: dict(counts) for route, counts in sorted(routes.items())},
        "error_counts": night.error_counts,
        "errors": [asdict(error) for error in night.top_errors],
        "profile_issues": dict(sorted(night.profile_issues.items())),
        "fid": None if run.fid is None else run.fid["defects"],
        "fid_missing": run.fid_missing,
        "canary": None if canary is None else asdict(canary),
        "seconds": run.seconds,
        "core_seconds": dict(run.totals.seconds),
        "images_per_second": run.images_per_second,
    }


def versions() -> dict[str, str]:
    """Return the versions of the software that decides the outputs' bytes."""
    packages = (
        *("catalog-repair", "ray", "torch", "timm", "pillow", "opencv-python-headless"),
        *("numpy", "numba", "scipy", "pyarrow"),
    )
    installed = {}
    for name in packages:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a folder that is not installed
            installed[name] = "not installed"
    return {"python": platform.python_version(), **installed}


def report(run: Run) -> None:
    """Write the page with its picture below OUTPUT/.run.

    If no row is new, the last run's page stays, because it still describes the manifest.
    """
    if run.night.rows or not storage.exists(storage.join(run.output, REPORT)):
        write_page(run)


def write_page(run: Run) -> None:
    """Write the report's page and picture below OUTPUT/.run."""
    plan, night = run.plan, run.night
    counts = without_canary(night.routes)
    defects = [defect for defect in plan.label_map.defects if defect in counts]
    strips = _strips(run)
    summary = RunSummary(
        counts_by_status=by_status(night.statuses),
        counts_by_defect={defect: counts[defect] for defect in defects},
        unchanged=run.unchanged,
        resumed=run.resumed,
        duration_seconds=run.seconds["total"],
        images_per_second=run.images_per_second,
        started_at=run.started_at,
        model_version=plan.bundle.version,
        configuration={**plan.describe(), **asdict(run.generators), "versions": versions()},
        errors=night.top_errors,
        profile=None if plan.delivery.profile is None else plan.delivery.profile.name,
        profile_issues=dict(sorted(night.profile_issues.items())),
        fid=run.fid,
        fid_missing=run.fid_missing,
        strips={defect: strips[defect] for defect in defects if defect in strips},
        canary=compare(run),
        canary_strips={defect: strips[defect + CANARY] for defect in defects if defect + CANARY in strips},
    )
    write_report(run.folder.at(), summary)
    corrected = {
        defect: [strip for strip in strips if strip.rejected is None]
        for defect, strips in summary.strips.items()
    }
    picture = contact_sheet(corrected)
    if picture is not None:
        storage.write_bytes(run.folder.at(REPORT, "before_after.png"), picture)


def _strips(run: Run) -> dict[str, list[Strip]]:
    """Return the report's pictures of this attempt by route, ordered by id: at most STRIPS_PER_DEFECT of each route,
    and one of each id.
    """
    by_route: dict[str, dict[str, Strip]] = {}
    for uri in storage.list_files(run.folder.at(STRIPS, run.attempt), ".parquet"):
        for row in pq.read_table(pa.BufferReader(storage.read_bytes(uri))).to_pylist():
            route = row.pop("route")
            by_route.setdefault(route, {})[row["image_id"]] = Strip(**row)
    return {
        route: [strips[name] for name in sorted(strips)[:STRIPS_PER_DEFECT]]
        for route, strips in by_route.items()
    }
