"""What all units came to: their records added up and checked."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from model.errors import RunError
from pipelines import storage
from pipelines.ahead import map_ahead
from pipelines.dataset.listing import NAMELESS
from pipelines.dataset.totals import UnitRecord
from pipelines.dataset.unit import HELD_BACK, Work


def collect(work: Work) -> UnitRecord:
    """Add up all units' records and what the plan counted.

    Raises RunError where entries were lost or doubled, or the shards are not those that the records name.
    """
    total = UnitRecord()
    for record in _records(work):
        total.merge(record)
    plan = work.plan
    counts = total.totals.counts
    for outcome, count in (
        ("listed", plan.listed),
        ("duplicates", plan.duplicates),
        ("prepared", 0),  # so that the key exists
        ("unreadable", 0),
    ):
        counts[f"entries/{outcome}"] += count
    if plan.nameless:
        total.totals.add_unreadable("", NAMELESS, "image_id is empty", plan.nameless)
    _check_conservation(total, work)
    return total


def remove_done(work: Work) -> None:
    """Remove the units' records: their sum is kept. And what killed workers left half written."""
    storage.remove(work.done_folder)
    for folder in (work.shards, *(work.held_back(name) for name in HELD_BACK if work.test_catalog)):
        storage.remove_unfinished(folder)


def _check_conservation(total: UnitRecord, work: Work) -> None:
    """Raise RunError unless every listed entry came to something, and the shards are exactly what units wrote."""
    counts = total.totals.counts
    accounted = sum(counts[f"entries/{outcome}"] for outcome in ("prepared", "unreadable", "duplicates"))
    # Training reads whatever lies there.
    there = {PurePosixPath(uri).name for uri in storage.list_files(work.shards, ".parquet")}
    if accounted != counts["entries/listed"] or there != set(total.shards):
        raise RunError(
            f"rows were lost or doubled: {counts['entries/listed']} entries listed, {accounted} accounted for; "
            f"{len(total.shards)} shards written, {len(there)} in {work.shards}; do not use this output, "
            "run again with --overwrite and report this"
        )


def _records(work: Work) -> Iterator[UnitRecord]:
    """The records of all units, a few in memory at a time."""
    for _, data in map_ahead(lambda unit: storage.read_bytes(work.done(unit)), range(work.plan.units)):
        yield UnitRecord.from_bytes(data)
