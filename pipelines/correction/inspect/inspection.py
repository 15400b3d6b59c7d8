"""Inspects a catalog, on Ray if it is large: which rows need work, and which ids occur more than once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import ray
import ray.data

from model.errors import RunError
from pipelines import storage
from pipelines.cluster.placement import in_task, on_tasks, tables
from pipelines.correction.inspect.pending import (
    INSPECT_HERE,
    Inspection,
    InspectSettings,
    groups,
    inspect_units,
    plan_of,
)
from pipelines.correction.inspect.repeated import SHARD_ROWS, Repeated, find_repeated, merge_repeated
from pipelines.correction.inspect.survey import Survey
from pipelines.published.key_shards import ROW_BYTES
from pipelines.storage.parquet_units import Listing


def inspect(listing: Listing, settings: InspectSettings) -> tuple[Inspection, Repeated]:
    """Inspect the catalog; return what its rows need, and its repeated ids.

    Raises ConfigurationError for a row without an id or a score outside 0..1, RunError (also for too many repeated
    ids) and whatever tasks raise.
    """
    sources = list(groups(listing.units))
    first = list(
        _inspected(sources, listing.rows, settings)
    )  # small: counts and some hashes of each plan file
    plans = storage.list_files(settings.plan, ".parquet")
    repeated = merge_repeated(_find_repeated(plans, listing.rows))
    inspection = Inspection(Survey(settings.sample_size))
    for table in first:
        inspection.merge(table, except_plans=repeated.affected)
    if inspection.rows != listing.rows:
        raise RunError(f"the catalog has {listing.rows} rows, but {inspection.rows} were read; run again")
    if repeated.affected:  # what these rows need depends on other rows of their ids
        affected = [table for table in sources if plan_of(table, settings.plan) in repeated.affected]
        again = replace(settings, repeated=ray.put(repeated))
        for table in _inspected(affected, inspection.rows, again):
            inspection.merge_again(table)
    return inspection, repeated


def _inspected(sources: Sequence[pa.Table], rows: int, settings: InspectSettings) -> Iterator[pa.Table]:
    if rows <= INSPECT_HERE:
        return (inspect_units(table, settings) for table in sources)
    data = ray.data.from_arrow(list(sources))
    return tables(on_tasks(data, inspect_units, {"settings": settings}, cpus=0.5))


def _find_repeated(plans: Sequence[str], rows: int) -> list[Repeated]:
    """Return the repeated ids of each shard. Many rows are divided into shards, which are searched by tasks."""
    if rows <= INSPECT_HERE:
        return [find_repeated(plans)]
    shards = -(-rows // SHARD_ROWS)
    memory = ROW_BYTES * rows // shards
    calls = [in_task(find_repeated, 1, plans, shard, shards, memory=memory) for shard in range(shards)]
    return list(ray.get(calls))
