"""The third and the last stage of a run: writes the next manifest, and publishes it."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from model.errors import RunError
from pipelines import storage
from pipelines.correction.inspect.known import KnownCounts
from pipelines.correction.publish.assemble import assemble_parts
from pipelines.correction.publish.conservation import check_conservation
from pipelines.correction.run import Run
from pipelines.published.changes import write_changes
from pipelines.published.layout import ASIDE_FOLDER, CHANGES_FOLDER, MANIFEST, REPORT, Layers
from pipelines.published.publish import Publication, check_parts
from pipelines.published.publish import publish as move_into_place
from pipelines.published.records import last_run, manifest_run
from pipelines.storage.lock import Lock


def assemble(run: Run, known: Any, counts: KnownCounts, layers: Layers) -> None:
    """Write the next manifest below OUTPUT/.run, unless it would equal the last one.

    known, counts, layers: finished work of earlier runs. Raises RunError if its rows are not exactly the catalog's.
    """
    folder = run.folder.journal(run.attempt)
    journal = storage.list_files(folder, ".parquet")
    if len(journal) != run.totals.parts:
        raise RunError(
            f"{run.totals.parts} blocks were written, but {len(journal)} are in {folder}; nothing was published: "
            "run again"
        )
    earlier = counts.total
    if (
        layers.rows[0]
        and not any(layers.rows[1:])
        and not run.inspection.pending
        and earlier == run.inspection.rows
    ):
        run.statuses = Counter(counts.statuses)
        run.manifest = manifest_run(run.output)
        _write_changes(run, 0, earlier)
        return
    run.assembled = assemble_parts(
        [*layers.rows, journal],
        [*counts.rows, [run.totals.rows / max(1, len(journal))] * len(journal)],
        known,
        run.folder,
        run.folder.at(ASIDE_FOLDER, run.attempt),
        (run.inspection.rows, run.totals.refreshed),
        run.models,
    )
    written = storage.list_files(run.folder.at(MANIFEST))
    check_conservation(run.inspection.ids, run.assembled.ids)
    check_parts(run.assembled.parts, written)
    _write_changes(run, run.assembled.aside, sum(counts.rows[0]))
    run.statuses = run.assembled.statuses
    run.manifest = run.name
    for summary in run.assembled.resumed:
        run.night.add(summary)
    run.dropped = sum(counts.rows[0]) - (run.assembled.rows - run.night.rows)


def _write_changes(run: Run, aside: int, published: int) -> None:
    """Write what the run changes. aside: rows that were set aside. published: rows of the last manifest."""
    previous = (last_run(run.output) or "unknown") if published else ""
    folders = run.folder.at(ASIDE_FOLDER, run.attempt), run.folder.at(CHANGES_FOLDER)
    run.changes = write_changes(aside, *folders, run.name, previous)


def publish(run: Run, lock: Lock | None) -> None:
    """Replace what was published before by what this run wrote."""
    parts = None if run.assembled is None else run.assembled.parts
    report = [uri.rsplit("/", 1)[-1] for uri in storage.list_files(run.folder.at(REPORT))] or None
    success = not run.too_many_failed
    publication = Publication(run.name, run.inspection.rows, parts, report, success, run.changes.files)
    move_into_place(run.output, publication, confirmation(lock))


def confirmation(lock: Lock | None) -> Callable[[], None]:
    """Return a function that raises if the lock of the output is lost."""
    return (lambda: None) if lock is None else lock.confirm
