"""Add up and check the records of all units."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from model.errors import RunError
from pipelines import storage
from pipelines.cluster.ahead import map_ahead
from pipelines.preparation.plan.listing import NAMELESS
from pipelines.preparation.totals import UnitRecord
from pipelines.preparation.unit.unit import HELD_BACK, Work


def collect(work: Work) -> UnitRecord:
    """Return the sum of all units' records and of what the plan counted.

    Raises RunError if entries were lost or duplicated, or if the shards are not exactly those that the records name.
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
    """Remove the units' records, whose sum is kept, and files that killed workers left unfinished."""
    storage.remove(work.done_folder)
    for folder in (work.shards, *(work.held_back(name) for name in HELD_BACK if work.test_catalog)):
        storage.remove_unfinished(folder)


def _check_conservation(total: UnitRecord, work: Work) -> None:
    """Raise RunError unless every entry is accounted for and the shards are exactly those that the units wrote."""
    counts = total.totals.counts
    accounted = sum(counts[f"entries/{outcome}"] for outcome in ("prepared", "unreadable", "duplicates"))
    # Training reads every shard in the folder.
    existing = {PurePosixPath(uri).name for uri in storage.list_files(work.shards, ".parquet")}
    if accounted != counts["entries/listed"] or existing != set(total.shards):
        raise RunError(
            f"rows were lost or doubled: {counts['entries/listed']} entries listed, {accounted} accounted for; "
            f"{len(total.shards)} shards written, {len(existing)} in {work.shards}; do not use this output, "
            "run again with --overwrite and report this"
        )


def _records(work: Work) -> Iterator[UnitRecord]:
    """Yield the records of all units; only a few are in memory at a time."""
    for _, data in map_ahead(lambda unit: storage.read_bytes(work.done(unit)), range(work.plan.units)):
        yield UnitRecord.from_bytes(data)
