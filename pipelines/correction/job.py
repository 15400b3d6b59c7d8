"""A correction run on Ray Data, from the first look at the catalog to _SUCCESS. The steps are elsewhere; this file
wires them together.

    inspect: which rows are new or changed -> detect labels, where asked for
    -> read -> decode -> generator actors -> commit to the journal -> one summary row per block -> driver
    -> assemble the next manifest -> compare its ids with the catalog's -> publish
"""

import logging
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import ray
import ray.data

from model.errors import ConfigurationError, RunError, underway
from pipelines import ray_session, storage
from pipelines.correction import inspect_pass
from pipelines.correction.assemble import assemble_parts
from pipelines.correction.commit import CommitSettings, commit_block
from pipelines.correction.config import Plan
from pipelines.correction.conservation import check_conservation, check_parts
from pipelines.correction.correct import Corrector
from pipelines.correction.decode_rows import DecodeSettings, decode_rows
from pipelines.correction.detect import DetectSettings, detect
from pipelines.correction.detected import LABELS_FOLDER
from pipelines.correction.known import Facts, find_known
from pipelines.correction.measure import measure
from pipelines.correction.pending import InspectSettings
from pipelines.correction.publish import Publication, finish_publishing, publish
from pipelines.correction.read_pending import ReadSettings, read_works, survey_detected
from pipelines.correction.repeated import DUPLICATE_ID
from pipelines.correction.run_folder import (
    CATALOG_FOLDER,
    MANIFEST,
    PLAN_FOLDER,
    REPORT,
    RUN,
    Layers,
    RunFolder,
)
from pipelines.correction.run_output import check_whole, remove_run, write_run
from pipelines.correction.run_record import (
    BFLOAT16_BATCH,
    RUNNING,
    STRIPS_PER_DEFECT,
    Run,
    describe,
    write_run_report,
)
from pipelines.correction.scores import scale_note
from pipelines.correction.survey import CLEAN
from pipelines.lock import Lock
from pipelines.placement import Placement, configure, on_tasks, place, tables
from pipelines.progress import Progress

logger = logging.getLogger(__name__)

#: Errors of tasks that are tried again.
_RETRIED = ["StorageReadError", "StorageWriteError", "DecoderStartError"]
#: Bytes per block. Every block costs the engine's one scheduler tens of milliseconds, so not small; every
#: worker holds a few, so not large.
_LARGEST_BLOCK, _SMALLEST_BLOCK = 16 << 20, 1 << 20
#: Blocks that each actor should get at least, or all wait for the one that got the last.
_BLOCKS_PER_ACTOR = 6


def run(plan: Plan, lock: Lock | None = None) -> Run:
    """Bring the output up to date with the catalog: correct what is new or changed, and publish the next manifest.

    Raises ConfigurationError before anything is changed, RunError and others after. Starts or joins Ray; the caller
    shuts it down. lock: of the output, held by the caller; where it is lost, nothing is published.
    """
    started = time.perf_counter()
    config = plan.config
    storage.check_writable(config.output, "--output")  # before Ray takes its time to start
    given = (config.model, config.detector, config.gate_detector, config.reference)
    cluster = ray_session.start(*config.catalog, config.output, *filter(None, given))
    with ray_session.our_errors():
        busy = -(-plan.listing.rows // BFLOAT16_BATCH)
        placement = place(config.device, cluster, config.actors, config.gpus_per_actor, busy)
        run = begin(plan, placement, lock)
        run.seconds["start"] = time.perf_counter() - started
        layers = Layers() if config.overwrite else run.folder.layers()
        run.attempt = layers.next_attempt(run.name)
        known, facts = find_known(layers, config.retry_failed)
        with run.stage("inspect"):
            inspect(run, known, sum(facts.rows[0]))
        if config.overwrite:
            remove_run(config.output)
        write_run(config.output, describe(run, RUNNING))
        run.seconds["correct"] = 0.0
        with underway(), ray_session.our_errors():
            if run.inspection.pending:
                _work(run, known, facts, layers, lock)
            with run.stage("assemble"):
                _assemble(run, layers, known, facts)
            measure(run)
        run.seconds["total"] = time.perf_counter() - started
        if tells_something(run):
            write_run_report(run)
        write_run(config.output, describe(run, "too many failed" if run.too_many_failed else "complete"))
        _publish(run, lock)
        storage.remove(run.folder.at(CATALOG_FOLDER))  # until now units were read from there
    return run


def begin(plan: Plan, placement: Placement, lock: Lock | None = None) -> Run:
    """Finish what an interrupted run was publishing, and clear the place for this one."""
    folder = RunFolder(plan.config.output)
    if finish_publishing(plan.config.output, _confirm(lock)):
        logger.info("an earlier run was interrupted while it published its manifest: that is done now")
    interrupted = storage.exists(folder.at(RUN))
    folder.begin_attempt()
    storage.remove_unfinished(plan.config.output)
    now = datetime.now(timezone.utc)
    name = f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    return Run(plan, placement, now, name, interrupted, fid_missing=plan.fid_missing)


def inspect(run: Run, known: Any, published: int) -> None:
    """Find what needs work. known: see `known.find_known`. published: rows of the manifest that is there."""
    plan = run.plan
    configure(_SMALLEST_BLOCK, _RETRIED)
    settings = InspectSettings(
        plan.label_map,
        plan.identity(run.precision),
        run.folder.at(PLAN_FOLDER),
        known,
        max(plan.config.fid_samples, STRIPS_PER_DEFECT),
        detector=plan.detector is not None,
        compare=plan.fid_weights is not None and plan.reference.is_catalog,
        allowed=plan.config.allowed_uris,
        score_scale=plan.config.score_scale,
    )
    try:
        check_whole(plan.listing.rows, published, plan.config.max_dropped)
        run.inspection, repeated = inspect_pass.inspect(plan.listing, settings)
    except ConfigurationError:
        run.folder.begin_attempt()
        raise
    if note := scale_note(run.inspection.top_score, plan.config.score_scale):
        logger.warning("%s", note)
    if repeated.refused:
        logger.warning(
            "ids that occur more than once, with other images or labels, and whose rows fail (%s): %d",
            *(DUPLICATE_ID, repeated.refused),
        )


def _work(run: Run, known: Any, facts: Facts, layers: Layers, lock: Lock | None) -> None:
    """Detect and correct what needs work."""
    plan, inspection = run.plan, run.inspection
    logger.info(
        "%d of %d rows are to be looked at: new, changed, or in files that are",
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
        _correct(run, known, facts, layers, read, lock)


def tells_something(run: Run) -> bool:
    """Whether the run has a report of its own; else the last one stays, which tells of what the manifest has."""
    return bool(run.night.rows) or not storage.exists(storage.join(run.output, REPORT))


def _assemble(run: Run, layers: Layers, known: Any, facts: Facts) -> None:
    """The next manifest, unless it would be the last one; its rows are those of the catalog, or RunError."""
    folder = run.folder.journal(run.attempt)
    journal = storage.list_files(folder, ".parquet")
    if len(journal) != run.totals.parts:
        raise RunError(
            f"{run.totals.parts} blocks were written and {len(journal)} are in {folder}; nothing was published: "
            "run again"
        )
    earlier = facts.total
    if (
        layers.rows[0]
        and not any(layers.rows[1:])
        and not run.inspection.pending
        and earlier == run.inspection.rows
    ):
        run.statuses = Counter(facts.statuses)
        return
    run.assembled = assemble_parts(
        [*layers.rows, journal],
        [*facts.rows, [run.totals.rows / max(1, len(journal))] * len(journal)],
        known,
        run.folder,
    )
    written = storage.list_files(run.folder.at(MANIFEST))
    check_conservation(run.inspection.ids, run.assembled.ids)
    check_parts(run.assembled.parts, written)
    run.statuses = run.assembled.statuses
    for summary in run.assembled.resumed:
        run.night.add(summary)
    run.dropped = sum(facts.rows[0]) - (run.assembled.rows - run.night.rows)


def _confirm(lock: Lock | None) -> Callable[[], None]:
    return (lambda: None) if lock is None else lock.confirm


def _publish(run: Run, lock: Lock | None) -> None:
    parts = None if run.assembled is None else run.assembled.parts
    report = [uri.rsplit("/", 1)[-1] for uri in storage.list_files(run.folder.at(REPORT))] or None
    publication = Publication(run.name, run.inspection.rows, parts, report, not run.too_many_failed)
    publish(run.output, publication, _confirm(lock))


def _detect(run: Run, folder: str) -> dict[str, int]:
    """Label what has no labels; counts of `detect.COUNTS`."""
    config, detector = run.plan.config, run.plan.detector
    if config.detector is None or detector is None:
        raise ValueError("there is no detector")
    settings = DetectSettings(
        *(folder, config.detector, detector.version, config.limits),
        allowed=config.allowed_uris,
    )
    return detect(run.inspection.needed(None), settings, run.placement)


def _survey_detected(run: Run, folder: str) -> None:
    """Count and sample the rows that the detector has labelled."""
    settings = {
        "label_map": run.plan.label_map,
        "sample_size": run.inspection.survey.sample_size,
        "detected": folder,
    }
    works = ray.data.from_arrow([work.table() for work in run.inspection.needed(None)])
    for table in tables(on_tasks(works, survey_detected, settings, cpus=0.5)):
        for row in table.to_pylist():
            run.inspection.survey.merge(row["sets"])


def _correct(
    run: Run, known: Any, facts: Facts, layers: Layers, read: ReadSettings, lock: Lock | None
) -> None:
    """Stream what needs work through the steps and add up what comes back. Raises TooManyFailedError where nothing
    succeeds, and RunError where the lock is lost.
    """
    commit = replace(
        run.plan.commit_settings(run.precision, run.attempt),
        corrected_at=run.started_at,
        tell_begun=any(layers.rows) or run.interrupted,
    )
    failed = facts.statuses.get("failed", 0)
    with Progress("correcting", run.inspection.pending, sys.stderr) as progress:
        for summary in _summaries(run, known, commit, read):
            run.totals.add(summary)
            run.night.add(summary)
            progress.update(summary["rows"] + summary["refreshed"], summary["failed"])
            run.totals.check_promising(run.plan.config.max_failed, failed)  # which may well fail again
            if lock is not None:
                lock.check()
    rows = run.totals.rows + run.totals.refreshed
    if rows != run.inspection.pending:
        raise RunError(
            f"{run.inspection.pending} rows needed work and {rows} got it; nothing was published: run again"
        )


def _summaries(run: Run, known: Any, commit: CommitSettings, read: ReadSettings) -> Iterator[dict[str, Any]]:
    """Rows of SUMMARY as the graph makes them; nothing runs before they are iterated over."""
    plan, placement, config = run.plan, run.placement, run.plan.config
    survey = run.inspection.survey
    configure(_block_bytes(plan, placement), _RETRIED)
    defects = set(plan.label_map.defects)
    is_measured, is_compared = plan.fid_weights is not None, plan.reference.is_catalog
    fid_sample = survey.sample(config.fid_samples)
    compared = fid_sample.only({CLEAN} if is_measured and is_compared else set())
    decode = DecodeSettings(
        plan.label_map,
        plan.image_size,
        fit=plan.bundle.fit,
        sample=fid_sample.only((defects | set(compared.thresholds)) if is_measured else set()),
        strips=survey.sample(STRIPS_PER_DEFECT).only(defects),
        limits=config.limits,
        allowed=config.allowed_uris,
        known=known,
    )
    corrector = {
        "model": config.model,
        "version": plan.bundle.version,
        "conditions": plan.label_map.conditions,
        "device": placement.device,
        "precision": run.precision,
        "batch_size": run.batch_size,
        "grounds": plan.delivery.snaps,
    }
    works = run.inspection.needed(compared.thresholds.get(CLEAN))
    if not works:
        return
    source = ray.data.from_arrow([work.table() for work in works])
    catalog = placement.read(source, read_works, {"settings": replace(read, compare=compared)})
    decoded = placement.tasks(catalog, decode_rows, {"settings": decode})
    edited = placement.actors(decoded, Corrector, corrector, run.batch_size)
    for table in tables(placement.tasks(edited, commit_block, {"settings": commit})):
        yield from table.to_pylist()


def _block_bytes(plan: Plan, placement: Placement) -> int:
    """Small enough that a small catalog keeps all actors busy."""
    decoded = plan.listing.stored_bytes + plan.listing.rows * 3 * plan.image_size**2
    share = decoded // (_BLOCKS_PER_ACTOR * placement.max_actors)
    return max(_SMALLEST_BLOCK, min(_LARGEST_BLOCK, share))
