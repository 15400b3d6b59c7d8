"""A correction run on Ray Data, from the survey to _SUCCESS. The steps are elsewhere; this file wires them
together.

    read -> decode -> generator actors -> commit -> one summary row per block -> driver
"""

import importlib.metadata
import logging
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import torch
from ray.data import Dataset
from ray.exceptions import RayError

from model.errors import CatalogRepairError, RunError, underway
from model.precision import choose_precision
from pipelines import ray_session, storage
from pipelines.contact_sheet import contact_sheet
from pipelines.correction.commit import commit_block
from pipelines.correction.config import Plan
from pipelines.correction.correct import Corrector
from pipelines.correction.decode_rows import DecodeSettings, decode_rows
from pipelines.correction.detect import DetectSettings, detect
from pipelines.correction.detected import LABELS_FOLDER
from pipelines.correction.fid_pass import FidSettings, compute_fid, write_fid
from pipelines.correction.read_catalog import read_units
from pipelines.correction.rows import MANIFEST_FOLDER, STRIPS
from pipelines.correction.run_output import mark_success, prepare_output, remove_samples, write_run
from pipelines.correction.survey import CLEAN, SURVEY_HERE, Survey, merge_partials, survey_here, survey_units
from pipelines.correction.totals import Totals
from pipelines.label_map import LabelMap
from pipelines.lock import Lock
from pipelines.parquet_units import Listing, joined
from pipelines.placement import Placement, configure, on_tasks, place, tables
from pipelines.progress import Progress
from pipelines.report import RunSummary, Strip, write_report
from pipelines.schemas import STATUSES

logger = logging.getLogger(__name__)

#: Pictures per defect in the report.
STRIPS_PER_DEFECT = 12
#: Bytes per block. Every block costs the engine's one scheduler tens of milliseconds, so not small; every
#: worker holds a few, so not large.
_LARGEST_BLOCK, _SMALLEST_BLOCK = 16 << 20, 1 << 20
#: Blocks that each actor should get at least, or all wait for the one that got the last.
_BLOCKS_PER_ACTOR = 6
#: Images in a pass of the generator: a GPU and a CPU's matrix units need many to be filled. A core in float32 does
#: not: at 256 pixels two took 400 ms each and eight 500, beyond its cache; at 128 pixels all took 90.
_GPU_BATCH, _BFLOAT16_BATCH, _FLOAT32_BATCH = 32, 8, 2


@dataclass
class Run:
    """What a run came to. seconds: wall time by stage."""

    plan: Plan
    placement: Placement
    started_at: datetime
    totals: Totals = field(default_factory=Totals)
    fid: dict[str, Any] | None = None
    fid_missing: str | None = None
    detected: dict[str, int] | None = None  # what the detector saw; see `detect.COUNTS`
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def too_many_failed(self) -> bool:
        """True above the tolerated share of failures (--max-failed)."""
        return self.totals.statuses["failed"] > self.plan.config.max_failed * self.totals.rows

    @property
    def images_per_second(self) -> float:
        """Rows over the wall time of the correcting stage."""
        return self.totals.rows / max(self.seconds["correct"], 1e-9)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def run(plan: Plan, lock: Lock | None = None) -> Run:
    """Correct a catalog. Raises ConfigurationError before anything is written, RunError and others after.

    Starts or joins Ray; the caller shuts it down. lock: of the output, held by the caller; lost, it ends the run.
    """
    started = time.perf_counter()
    config = plan.config
    storage.check_writable(config.output, "--output")  # before Ray takes its time to start
    cluster = ray_session.start()
    with ray_session.our_errors():
        samples = max(config.fid_samples, STRIPS_PER_DEFECT)
        survey = take_survey(plan.listing, plan.label_map, samples)
        busy = -(-plan.listing.rows // _BFLOAT16_BATCH)
        placement = place(config.device, cluster, config.actors, config.gpus_per_actor, busy)
        run = Run(plan, placement, datetime.now(timezone.utc), fid_missing=plan.fid_missing)
        run.seconds["start"] = time.perf_counter() - started
        prepare_output(config.output, config.overwrite)
        write_run(config.output, describe(run, "running"))
        if plan.detector is not None:
            with run.stage("detect"), underway(), ray_session.our_errors():
                run.detected = _detect(run)
                survey = take_survey(plan.listing, plan.label_map, samples, detected_in(config.output))
        with run.stage("correct"), underway(), ray_session.our_errors():
            _correct(run, survey, lock)
        check_conservation(plan.listing.rows, run.totals, config.output)
        if plan.fid_weights is not None:
            with run.stage("fid"):
                try:
                    run.fid = _fid(run, survey)
                except (CatalogRepairError, RayError) as error:
                    # All images are corrected and committed: they are worth more than their measurement.
                    run.fid_missing = f"FID could not be computed: {error}"
                    logger.warning(run.fid_missing)
        run.seconds["total"] = time.perf_counter() - started
        _report(run)
        remove_samples(config.output)
        write_run(config.output, describe(run, "too many failed" if run.too_many_failed else "complete"))
        if lock is not None:
            lock.confirm()
        if not run.too_many_failed:
            mark_success(config.output)
    return run


def detected_in(output: str) -> str:
    """Where the detector's labels lie."""
    return storage.join(output, LABELS_FOLDER)


def take_survey(
    listing: Listing, label_map: LabelMap, sample_size: int, detected: str | None = None
) -> Survey:
    """Count routes and find sampling thresholds; with Ray where the catalog is large.

    detected: where the detector's labels lie, or None.
    """
    # A detector's labels lie unit by unit.
    wholes = tuple(joined(listing.units)) if detected is None else listing.units
    if listing.rows <= SURVEY_HERE:
        return survey_here(wholes, label_map, sample_size, detected)
    units = ray.data.from_arrow([unit.table() for unit in wholes])
    settings = {"label_map": label_map, "sample_size": sample_size, "detected": detected}
    partials = tables(on_tasks(units, survey_units, settings, cpus=0.5))
    return merge_partials(partials, sample_size, wholes)


def check_conservation(rows_in: int, totals: Totals, output: str) -> None:
    """Raise RunError unless every input row has a status and every block its manifest part.

    rows_in: from the catalog's parquet footers, so independent of what the steps counted.
    """
    counted = sum(totals.statuses[status] for status in STATUSES)
    parts = len(storage.list_files(storage.join(output, MANIFEST_FOLDER), ".parquet"))
    if rows_in != counted or parts != totals.blocks:
        raise RunError(
            f"rows were lost or doubled: {rows_in} in the catalog, {counted} with a status; {totals.blocks} blocks, "
            f"{parts} manifest parts in {output}; do not use this output, run again with --overwrite and report this"
        )


def describe(run: Run, state: str) -> dict[str, Any]:
    """The content of run.json."""
    totals = run.totals
    return {
        "state": state,
        "started_at": run.started_at.isoformat(),
        "configuration": run.plan.describe(),
        "config_hash": run.plan.config_hash(_precision(run)),
        "placement": {**asdict(run.placement), "batch_size": _batch_size(run), "precision": _precision(run)},
        "versions": versions(),
        "rows_in": run.plan.listing.rows,
        "detected": run.detected,
        "counts": {status: totals.statuses[status] for status in STATUSES},
        "counts_by_route": {route: dict(counts) for route, counts in sorted(totals.routes.items())},
        "errors": [asdict(error) for error in totals.top_errors],
        "fid_missing": run.fid_missing,
        "seconds": run.seconds,
        "core_seconds": dict(totals.seconds),
        "images_per_second": run.images_per_second if "correct" in run.seconds else None,
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


def _detect(run: Run) -> dict[str, int]:
    """Label what has no labels; counts of `detect.COUNTS`."""
    config, detector = run.plan.config, run.plan.detector
    if config.detector is None or detector is None:
        raise ValueError("there is no detector")
    settings = DetectSettings(detected_in(config.output), config.detector, detector.version, config.limits)
    return detect(run.plan.listing, settings, run.placement)


def _correct(run: Run, survey: Survey, lock: Lock | None) -> None:
    """Stream the catalog through the steps and add up what comes back. Raises TooManyFailedError, and RunError where
    the lock is lost.
    """
    with Progress("correcting", run.plan.listing.rows, sys.stderr) as progress:
        for table in tables(_summaries(run, survey)):
            for summary in table.to_pylist():
                run.totals.add(summary)
                progress.update(summary["rows"], summary["failed"])
            run.totals.check_promising(run.plan.config.max_failed)
            if lock is not None:
                lock.check()


def _summaries(run: Run, survey: Survey) -> Dataset:
    """The graph; nothing runs before it is iterated over."""
    plan, placement, config = run.plan, run.placement, run.plan.config
    configure(_block_bytes(plan, placement), ["StorageReadError", "StorageWriteError"])
    defects = set(plan.label_map.defects)
    fid_sample = survey.sample(config.fid_samples)
    wanted = defects | ({CLEAN} if plan.reference.is_catalog else set())
    commit = replace(plan.commit_settings(_precision(run)), corrected_at=run.started_at)
    decode = DecodeSettings(
        plan.label_map,
        plan.image_size,
        sample=fid_sample.only(wanted if plan.fid_weights is not None else set()),
        strips=survey.sample(STRIPS_PER_DEFECT).only(defects),
        limits=config.limits,
    )
    corrector = {
        "model": config.model,
        "version": plan.bundle.version,
        "conditions": plan.label_map.conditions,
        "device": placement.device,
        "precision": _precision(run),
        "batch_size": _batch_size(run),
    }
    units = ray.data.from_arrow([unit.table() for unit in plan.listing.units])
    catalog = placement.read(
        units, read_units, {"detected": detected_in(config.output) if plan.detector is not None else None}
    )
    decoded = placement.tasks(catalog, decode_rows, {"settings": decode})
    edited = placement.actors(decoded, Corrector, corrector, _batch_size(run))
    return placement.tasks(edited, commit_block, {"settings": commit})


def _block_bytes(plan: Plan, placement: Placement) -> int:
    """Small enough that a small catalog keeps all actors busy."""
    decoded = plan.listing.stored_bytes + plan.listing.rows * 3 * plan.image_size**2
    share = decoded // (_BLOCKS_PER_ACTOR * placement.max_actors)
    return max(_SMALLEST_BLOCK, min(_LARGEST_BLOCK, share))


def _batch_size(run: Run) -> int:
    if run.plan.config.batch_size is not None:
        return run.plan.config.batch_size
    if run.placement.device == "cuda":
        return _GPU_BATCH
    return _BFLOAT16_BATCH if _precision(run) == "bfloat16" else _FLOAT32_BATCH


def _precision(run: Run) -> str:
    """Decided once, here: every actor must compute alike."""
    chosen = choose_precision(run.plan.config.precision, torch.device(run.placement.device))
    return "bfloat16" if chosen == torch.bfloat16 else "float32"


def _fid(run: Run, survey: Survey) -> dict[str, Any]:
    plan = run.plan
    if plan.fid_weights is None:
        raise ValueError("FID needs weights")
    logger.info("computing FID and KID against %s", plan.reference.description)
    defects = tuple(defect for defect in plan.label_map.defects if survey.rows[defect])
    samples = {route: min(rows, plan.config.fid_samples) for route, rows in survey.rows.items()}
    images = plan.reference.images + 2 * sum(samples[defect] for defect in defects)
    if plan.reference.is_catalog:
        images += samples.get(CLEAN, 0)
    settings = FidSettings(plan.config.output, defects, plan.reference, plan.fid_weights, images)
    summary = compute_fid(settings, run.placement)
    write_fid(plan.config.output, summary)
    return summary


def _report(run: Run) -> None:
    plan, totals = run.plan, run.totals
    defects = [defect for defect in plan.label_map.defects if defect in totals.routes]
    summary = RunSummary(
        counts_by_status={status: totals.statuses[status] for status in STATUSES},
        counts_by_defect={defect: totals.routes[defect] for defect in defects},
        duration_seconds=run.seconds["total"],
        correcting_seconds=run.seconds["correct"],
        started_at=run.started_at,
        model_version=plan.bundle.version,
        configuration={**plan.describe(), **asdict(run.placement), "versions": versions()},
        errors=totals.top_errors,
        fid=run.fid,
        fid_missing=run.fid_missing,
        strips=_strips(plan.config.output, defects),
    )
    write_report(plan.config.output, summary)
    picture = contact_sheet(summary.strips)
    if picture is not None:
        storage.write_bytes(storage.join(plan.config.output, "report", "before_after.png"), picture)


def _strips(output: str, defects: list[str]) -> dict[str, list[Strip]]:
    """The report's pictures by defect, ordered by id; at most STRIPS_PER_DEFECT each."""
    found: dict[str, list[Strip]] = {defect: [] for defect in defects}
    for uri in storage.list_files(storage.join(output, STRIPS), ".parquet"):
        for row in pq.read_table(pa.BufferReader(storage.read_bytes(uri))).to_pylist():
            found[row.pop("route")].append(Strip(**row))
    return {
        defect: sorted(strips, key=lambda strip: strip.image_id) for defect, strips in found.items() if strips
    }
