"""The first look at a catalog, in process, for several test modules."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contracts.label_map import LabelMap
from pipelines.correction.catalog import list_catalog
from pipelines.correction.inspect.known import Known
from pipelines.correction.inspect.pending import (
    PLAN,
    Inspection,
    InspectSettings,
    groups,
    inspect_units,
    plan_of,
)
from pipelines.correction.inspect.repeated import find_repeated
from pipelines.correction.inspect.survey import Survey
from pipelines.correction.models import Model, Models
from pipelines.images.allowed_uris import AllowedUris


def models_of(version: str, output: str = "out", size: int = 16) -> Models:
    """A run's only bundle."""
    return Models(output, Model(None, "--model", version, size, "stretch", "c" * 64))


def look(catalog: Path, known: Known, identity: str = "model", **given: Any) -> tuple[pa.Table, Inspection]:
    """PLAN of all rows in the catalog's order, and the whole. given: further settings."""
    allowed = AllowedUris((str(catalog.parent), "/gone"))
    given = {"label_map": LabelMap.default(), "sample_size": 5, "models": models_of(identity), **given}
    places = InspectSettings(plan=str(catalog.with_name("plan")), known=known, allowed=allowed, **given)
    inspection = Inspection(Survey(5))
    tables = list(groups(list_catalog([str(catalog)], score_scale=given.get("score_scale", 1)).units))
    first = [inspect_units(table, places) for table in tables]
    plans = [plan_of(table, places.plan) for table in tables]
    found = find_repeated(plans)
    for inspected in first:
        inspection.merge(inspected, found.affected)
    for table, plan in zip(tables, plans, strict=True):
        if plan in found.affected:
            inspection.merge_again(inspect_units(table, replace(places, repeated=found)))
    return pa.concat_tables([PLAN.empty_table(), *(pq.read_table(part) for part in plans)]), inspection
