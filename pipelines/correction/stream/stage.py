"""The second stage of a run: labels (with --detector), reads, corrects and commits the rows that need work.

read -> decode -> generate (actors) -> commit -> one summary row per block -> driver
"""

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray
import ray.data

from model.errors import RunError
from pipelines import storage
from pipelines.cluster.placement import configure, on_tasks, tables
from pipelines.cluster.progress import Progress
from pipelines.correction import metrics
from pipelines.correction.detected import LABELS_FOLDER
from pipelines.correction.inspect.known import KnownCounts
from pipelines.correction.inspect.pending import sources
from pipelines.correction.inspect.survey import CLEAN, defect_of
from pipelines.correction.run import RETRIED, SMALLEST_BLOCK, STRIPS_PER_DEFECT, Run
from pipelines.correction.stream.commit import CommitSettings, commit_block
from pipelines.correction.stream.decode import DecodeSettings, decode_rows
from pipelines.correction.stream.detect import DetectSettings, detect
from pipelines.correction.stream.generate import Corrector
from pipelines.correction.stream.read import ReadSettings, read_works, survey_detected
from pipelines.storage.lock import Lock
from pipelines.storage.parquet_units import Listing

logger = logging.getLogger(__name__)

#: Most bytes per block, of which every worker holds a few: up to _MOST_BLOCKS of them, and beyond. Each costs the
#: driver some 10 ms in each step (docs/scale.md).
_LARGEST_BLOCK, _HUGE_BLOCK = 16 << 20, 128 << 20
_MOST_BLOCKS = 200_000
#: An upload that is not in the catalog's files has at least so many bytes, in the estimate of the number of blocks.
_UPLOAD_BYTES = 100_000
#: Fewest blocks per actor. With fewer, all actors wait for the one with the last block.
_BLOCKS_PER_ACTOR = 6


def stream(run: Run, known: Any, counts: KnownCounts, lock: Lock | None) -> None:
    """Label and correct the rows that need work, if there are any.

    known, counts: finished work of earlier runs.
    Raises TooManyFailedError if no row succeeds, and RunError if the lock is lost.
    """
    plan, inspection = run.plan, run.inspection
    run.seconds["correct"] = 0.0
    if not inspection.pending:
        return
    logger.info(
        "%d of %d rows have to be read: they are new or changed, or in files that are",
        inspection.pending,
        inspection.rows,
    )
    detected = None
    if plan.detector is not None:
        detected = storage.join(run.output, LABELS_FOLDER, run.name)
    if detected is not None:
        with run.stage("detect"):
            run.detected = _detect(run, detected)
            _survey_detected(run, detected)
    with run.stage("correct"):
        read = ReadSettings(plan.label_map, detected, score_scale=plan.config.score_scale)
        _correct(run, known, counts, read, lock)


def _detect(run: Run, folder: str) -> dict[str, int]:
    """Label the rows without labels; return the counts of `detect.COUNTS`."""
    config, detector = run.plan.config, run.plan.detector
    if config.detector is None or detector is None:
        raise ValueError("there is no detector")
    settings = DetectSettings(
        *(folder, config.detector, detector.version, config.limits),
        allowed=config.allowed_uris,
    )
    return detect(run.inspection.needed(None), settings, run.placement)


def _survey_detected(run: Run, folder: str) -> None:
    """Add the rows that the detector labelled to the survey."""
    settings = {
        "label_map": run.plan.label_map,
        "models": run.models,
        "sample_size": run.inspection.survey.sample_size,
        "detected": folder,
    }
    works = ray.data.from_arrow(sources(run.inspection.needed(None)))
    for table in tables(on_tasks(works, survey_detected, settings, cpus=0.5)):
        for row in table.to_pylist():
            run.inspection.survey.merge(row["sets"])


def _correct(run: Run, known: Any, counts: KnownCounts, read: ReadSettings, lock: Lock | None) -> None:
    """Stream the rows that need work through the steps, and add up the summaries. Raises TooManyFailedError if no row
    succeeds, and RunError if the lock is lost.
    """
    commit = replace(run.plan.commit_settings(run.precision, run.attempt), corrected_at=run.started_at)
    failed = counts.statuses.get("failed", 0)
    metrics.pending(run.inspection.pending)
    with Progress("correcting", run.inspection.pending, sys.stderr) as progress:
        for summary in _summaries(run, known, commit, read):
            run.totals.add(summary)
            run.night.add(summary)
            progress.update(summary["rows"] + summary["refreshed"], summary["failed"])
            metrics.report(summary, run.inspection.pending - progress.done)
            run.totals.check_promising(run.plan.config.max_failed, failed)  # rows that may fail again
            if lock is not None:
                lock.check()
    rows = run.totals.rows + run.totals.refreshed
    if rows != run.inspection.pending:
        raise RunError(
            f"{run.inspection.pending} rows needed work, but {rows} were done; nothing was published: run again"
        )


def _summaries(run: Run, known: Any, commit: CommitSettings, read: ReadSettings) -> Iterator[dict[str, Any]]:
    """Yield rows of SUMMARY as the graph makes them; it starts with the first of them."""
    plan, placement, config = run.plan, run.generators, run.plan.config
    survey = run.inspection.survey
    pending = run.inspection.pending
    models = run.models
    largest = max(model.image_size for model in models)
    configure(_block_bytes(pending, plan.listing, largest, placement.expected_actors), RETRIED)
    routes = {route for route in survey.rows if defect_of(route) in plan.label_map.defects}
    is_measured, is_compared = plan.fid_weights is not None, plan.reference.is_catalog
    fid_sample = survey.sample(config.fid_samples)
    compared = fid_sample.only({CLEAN} if is_measured and is_compared else set())
    decode = DecodeSettings(
        plan.label_map,
        models,
        sample=fid_sample.only((routes | set(compared.thresholds)) if is_measured else set()),
        strips=survey.sample(STRIPS_PER_DEFECT).only(routes),
        limits=config.limits,
        allowed=config.allowed_uris,
        known=known,
    )
    corrector = {
        "models": models,
        "conditions": plan.label_map.conditions,
        "device": placement.device,
        "precision": run.precision,
        "batch_size": run.batch_size,
        "background_defects": plan.delivery.background_defects,
    }
    works = run.inspection.needed(compared.thresholds.get(CLEAN))
    if not works:
        return
    source = ray.data.from_arrow(sources(works))
    catalog = placement.read(source, read_works, {"settings": replace(read, compare=compared)})
    decoded = placement.tasks(catalog, decode_rows, {"settings": decode})
    edited = placement.actors(decoded, Corrector, corrector, run.batch_size)
    for table in tables(placement.tasks(edited, commit_block, {"settings": commit})):
        yield from table.to_pylist()


def _block_bytes(pending: int, listing: Listing, image_size: int, actors: int) -> int:
    """Return a block size that keeps all actors busy even if few rows are pending, and the driver if very many are."""
    stored = listing.stored_bytes / max(1, listing.rows)
    pixels = 3 * image_size**2
    share = pending * (stored + pixels) / (_BLOCKS_PER_ACTOR * actors)
    most = pending * (max(stored, _UPLOAD_BYTES) + pixels) / _MOST_BLOCKS
    return int(max(SMALLEST_BLOCK, min(_LARGEST_BLOCK, share), min(_HUGE_BLOCK, most)))
