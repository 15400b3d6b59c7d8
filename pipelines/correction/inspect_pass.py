"""The first look at a catalog, on Ray where it is large: what needs work, and what becomes of ids that occur twice."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
import ray.data

from model.errors import RunError
from pipelines import storage
from pipelines.correction.pending import (
    INSPECT_HERE,
    Inspection,
    InspectSettings,
    Work,
    groups,
    inspect_units,
    plan_of,
)
from pipelines.correction.read_pending import LookSettings, look
from pipelines.correction.repeated import (
    SHARD_ROWS,
    Conflicts,
    Repeated,
    find_repeated,
    judge,
    merge_conflicts,
    merge_repeated,
)
from pipelines.correction.survey import Survey
from pipelines.parquet_units import Listing
from pipelines.placement import Placement, on_tasks, tables


def inspect(listing: Listing, settings: InspectSettings) -> tuple[Inspection, Repeated]:
    """What the catalog's rows need, and its repeated ids.

    Raises ConfigurationError for a row without an id and for a score outside 0..1, RunError and what tasks raise.
    """
    sources = list(groups(listing.units))
    inspection = Inspection(Survey(settings.sample_size))
    for table in _inspected(sources, listing.rows, settings):
        inspection.merge(table)
    if inspection.rows != listing.rows:
        raise RunError(f"the catalog has {listing.rows} rows, and {inspection.rows} were found; run again")
    plans = storage.list_files(settings.plan, ".parquet")
    parts = _sharded(find_repeated, inspection.rows, plans, settings.known)
    repeated = merge_repeated(parts)
    if repeated:  # these rows, and where they are, are looked at once more
        affected = [table for table in sources if plan_of(table, settings.plan) in repeated.plans]
        again = replace(settings, repeated=ray.put(repeated))
        inspection.replace(_inspected(affected, inspection.rows, again), repeated.plans)
    return inspection, repeated


def find_conflicts(
    works: Sequence[Work], repeated: Repeated, settings: LookSettings, placement: Placement
) -> Conflicts:
    """Which contested ids have different images. Raises RunError for too many, and what tasks raise."""
    if not len(repeated.contested):
        return Conflicts()
    source = ray.data.from_arrow(
        [work.table() for work in works if work.pending and work.plan in repeated.plans]
    )
    looked = 0
    for table in tables(placement.read(source, look, {"settings": settings})):
        looked += sum(table.column("looked").to_pylist())
    parts = storage.list_files(settings.folder, ".parquet")
    return merge_conflicts(_sharded(judge, looked, parts))


def _inspected(sources: Sequence[pa.Table], rows: int, settings: InspectSettings) -> Iterator[pa.Table]:
    if rows <= INSPECT_HERE:
        return (inspect_units(table, settings) for table in sources)
    data = ray.data.from_arrow(list(sources))
    return tables(on_tasks(data, inspect_units, {"settings": settings}, cpus=0.5))


def _sharded(function: Any, rows: int, *arguments: Any) -> list[Any]:
    """`function(*arguments, shard, shards)` of as many shards as `rows` need; in tasks, where they are many."""
    if rows <= INSPECT_HERE:
        return [function(*arguments)]
    shards = -(-rows // SHARD_ROWS)
    task: Any = ray.remote(num_cpus=0.5, retry_exceptions=True)(function)
    return list(ray.get([task.remote(*arguments, shard, shards) for shard in range(shards)]))
