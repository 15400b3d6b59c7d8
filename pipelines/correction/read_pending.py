"""Reads the rows that need work, and those that others are compared with, out of the units that have any."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.correction.pending import Work, is_pending, read_plan
from pipelines.correction.read_catalog import CATALOG_ROW, read_label_rows, read_rows, read_small_rows
from pipelines.correction.rows import COMPARE, CORRECT
from pipelines.correction.survey import SETS, Survey, route_name
from pipelines.label_map import LabelMap
from pipelines.sampling import Sample

SURVEYED = pa.schema([("sets", SETS)])


@dataclass(frozen=True)
class ReadSettings:
    """What reading needs to know. detected: see `read_catalog.read_rows`. compare: images without defects that are
    FID's reference.
    """

    label_map: LabelMap
    detected: str | None = None
    compare: Sample = field(default_factory=lambda: Sample({}))


def read_works(table: pa.Table, settings: ReadSettings) -> Iterator[pa.Table]:
    """Tables of CATALOG_ROW of every row of WORK."""
    for work in Work.from_table(table):
        yield from read_work(work, settings)


def read_work(work: Work, settings: ReadSettings) -> Iterator[pa.Table]:
    """Tables of CATALOG_ROW of a unit's rows that are needed; a table may be empty. Raises StorageReadError."""
    plan = read_plan(work)
    pending = is_pending(plan)
    start = 0
    for rows in read_rows(work.unit, settings.detected):
        part = slice(start, start + rows.num_rows)
        start = part.stop
        wanted = pending[part] | _compared(rows, pending[part], settings)
        if not wanted.any():
            continue
        columns = {
            name: plan.column(name).slice(part.start, rows.num_rows)
            for name in ("input_version", "row_key", "work_key")
        }
        columns["purpose"] = pa.array(np.where(pending[part], CORRECT, COMPARE))
        for name in rows.column_names:
            columns[name] = rows.column(name)
        found = pa.table([columns[name] for name in CATALOG_ROW.names], schema=CATALOG_ROW)
        yield found.filter(pa.array(wanted))


def _compared(rows: pa.Table, pending: np.ndarray, settings: ReadSettings) -> np.ndarray:
    """Which rows that have nothing to do are wanted all the same."""
    wanted = np.zeros(len(pending), bool)
    if settings.compare.thresholds:
        small = rows.select(["image_id", "labels", "product_type"]).to_pylist()
        for index in np.flatnonzero(~pending):
            row = small[index]
            labels = [(label["label"], label["score"]) for label in row["labels"] or ()]
            route = settings.label_map.route(labels, row["product_type"])
            wanted[index] = row["labels"] is not None and settings.compare.has(
                route_name(route.defects, route.unknown), row["image_id"]
            )
    return wanted


def survey_detected(table: pa.Table, label_map: LabelMap, sample_size: int, detected: str) -> pa.Table:
    """One row of SURVEYED: routes of the rows of WORK that the detector labelled. Raises StorageReadError."""
    found = Survey(sample_size)
    for work in Work.from_table(table):
        by_route: dict[str, list[str]] = {}
        rows = zip(read_small_rows(work.unit), read_label_rows(work.unit, detected), strict=True)
        for needs, (row, (image_id, labels, product_type)) in zip(
            is_pending(read_plan(work)), rows, strict=True
        ):
            if needs and row.unlabelled:
                route = label_map.route(labels, product_type)
                by_route.setdefault(route_name(route.defects, route.unknown), []).append(str(image_id))
        found.add(by_route)
    return pa.Table.from_pylist([{"sets": found.sets()}], SURVEYED)
