"""The first look at a catalog, on Ray where it is large: what needs work, and which ids occur more than once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
import ray.data

from model.errors import RunError
from pipelines.cluster.placement import on_tasks, tables
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
from pipelines.storage import objects as storage
from pipelines.storage.parquet_units import Listing


def inspect(listing: Listing, settings: InspectSettings) -> tuple[Inspection, Repeated]:
    """What the catalog's rows need, and its repeated ids.

    Raises ConfigurationError for a row without an id and for a score outside 0..1, RunError (also for too many ids that
    repeat) and what tasks raise.
    """
    sources = list(groups(listing.units))
    first = list(_inspected(sources, listing.rows, settings))  # of each plan file counts, and some hashes
    plans = storage.list_files(settings.plan, ".parquet")
    repeated = merge_repeated(_find_repeated(plans, listing.rows))
    inspection = Inspection(Survey(settings.sample_size))
    for table in first:
        inspection.merge(table, twice=repeated.affected)
    if inspection.rows != listing.rows:
        raise RunError(f"the catalog has {listing.rows} rows, and {inspection.rows} were found; run again")
    if repeated.affected:  # what these rows need depends on others
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
    """Of as many shards as `rows` need; in tasks, where they are many."""
    if rows <= INSPECT_HERE:
        return [find_repeated(plans)]
    shards = -(-rows // SHARD_ROWS)
    find: Any = ray.remote(num_cpus=0.5, retry_exceptions=True)(find_repeated)
    return list(ray.get([find.remote(plans, shard, shards) for shard in range(shards)]))
