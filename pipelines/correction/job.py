"""A correction run, from the inspection of the catalog to _SUCCESS: its stages in their order.

inspect   find the rows that are new or have changed
stream    read, decode, correct and commit these, on Ray Data
assemble  write the next manifest, and compare its ids with the catalog's
measure   compute FID and KID of the corrected images
report    write run.json and the page
publish   replace what was published before
"""

import logging
import time
from collections.abc import Callable

from model.errors import RunError, underway
from pipelines import storage
from pipelines.cluster import session
from pipelines.cluster.placement import Placement, choose_placement
from pipelines.correction import metrics
from pipelines.correction.detected import LABELS_FOLDER
from pipelines.correction.inspect.image_check import check_images
from pipelines.correction.inspect.known import find_known
from pipelines.correction.inspect.stage import inspect
from pipelines.correction.measure.fid import measure
from pipelines.correction.output import remove_run
from pipelines.correction.plan import Plan
from pipelines.correction.publish.stage import assemble, confirmation, publish
from pipelines.correction.report.record import Record
from pipelines.correction.report.run_report import report
from pipelines.correction.run import Run, cpu_batch
from pipelines.correction.stream.stage import stream
from pipelines.published.layout import CATALOG_FOLDER, MANIFESTS_FOLDER, RUNS_FOLDER, Layers, RunFolder
from pipelines.published.publish import finish_publishing
from pipelines.published.records import note_killed
from pipelines.storage import outputs
from pipelines.storage.lock import Lock

logger = logging.getLogger(__name__)


def run(
    plan: Plan,
    lock: Lock | None = None,
    began: Callable[[], None] = lambda: None,
    record: Record | None = None,
) -> Run:
    """Bring the output up to date with the catalog: correct new and changed rows, and publish the next manifest.

    Raises ConfigurationError before anything is changed, RunError and others after. Starts or joins Ray; the caller
    shuts it down. lock: of the output, held by the caller; if it is lost, nothing is published.
    began: called once nothing can be refused any more. record: of the run, which the caller completes if it fails.
    """
    started = time.perf_counter()
    config, record = plan.config, record or Record(plan.config.output)
    record.is_kept = True
    _check_tables(plan)
    storage.check_writable(config.output, "--output")  # before Ray, which takes seconds to start
    inputs = (
        config.model,
        config.canary,
        config.detector,
        config.gate_detector,
        config.reference,
        config.fid_weights,
    )
    cluster = session.start(*config.catalog, config.output, *filter(None, inputs))
    with session.our_errors():
        batches = -(-plan.listing.rows // cpu_batch(bfloat16=True))
        placement = choose_placement(config.device, cluster, config.actors, config.gpus_per_actor, batches)
        run = begin(plan, placement, record, lock)
        run.seconds["start"] = time.perf_counter() - started
        metrics.start(plan.label_map.defects)
        layers = Layers() if config.overwrite else run.folder.layers()
        run.attempt = layers.next_attempt(run.name)
        known, counts = find_known(layers, config.retry_failed)
        run.images_check = check_images(layers.rows[0], config.check_images, run.name)
        metrics.checked_images(run.output, run.images_check)
        with run.stage("inspect"):
            inspect(run, known, sum(counts.rows[0]))
        if config.overwrite:
            remove_run(config.output)
        began()
        record.begin(run)
        with underway(), session.our_errors():
            stream(run, known, counts, lock)
            with run.stage("assemble"):
                assemble(run, known, counts, layers)
            measure(run)
        run.seconds["total"] = time.perf_counter() - started
        if lock is not None:
            lock.confirm()  # another run that took it has its own files in the same folder
        with run.stage("report"):
            report(run)
            record.finish()
        with run.stage("publish"):
            publish(run, lock)
        if not run.too_many_failed:
            metrics.succeeded(run.output)
        _clean_up(run)
    return run


def _clean_up(run: Run) -> None:
    """Remove the tables of the catalog. A failure is only logged: the run is published."""
    try:
        storage.remove(storage.join(run.output, CATALOG_FOLDER))
    except storage.STORAGE_ERRORS as error:
        logger.warning("%s could not be removed: %s", CATALOG_FOLDER, error)


def _check_tables(plan: Plan) -> None:
    """Raise RunError if another run has removed the tables of folders and CSV files (see `tabulate`) that ended between
    the making of this plan and the taking of the lock.
    """
    folder = storage.join(plan.config.output, CATALOG_FOLDER)
    tables = {unit.uri for unit in plan.listing.units if unit.uri.startswith(f"{folder}/")}
    if not all(map(storage.exists, tables)):
        raise RunError(
            f"--output {plan.config.output}: another run ended there while this one read its catalog; give the same "
            "command again"
        )


def begin(plan: Plan, placement: Placement, record: Record, lock: Lock | None = None) -> Run:
    """Finish the publication of an interrupted run, remove its unfinished files, and return the new run."""
    folder = RunFolder(plan.config.output)
    if finish_publishing(plan.config.output, confirmation(lock)):
        logger.info(
            "an earlier run was interrupted while it published its manifest; the publication is complete now"
        )
    note_killed(plan.config.output)
    folder.begin_attempt()
    # Images are renamed out of .run.
    outputs.remove_unfinished(plan.config.output, (LABELS_FOLDER, MANIFESTS_FOLDER, RUNS_FOLDER))
    return Run(plan, placement, record.started_at, record.name, fid_missing=plan.fid_missing)
