"""Reads the rows that need work, and those that FID compares others with, from the units that have any."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.sampling import Sample
from pipelines.contracts.schemas import LABELS
from pipelines.correction.catalog import CATALOG_ROW, read_label_rows, read_rows, read_small_rows
from pipelines.correction.detected import read_detected
from pipelines.correction.inspect.pending import IS_ERASED, Work, is_pending, read_plan, to_read
from pipelines.correction.inspect.repeated import DUPLICATE_ID, refusal
from pipelines.correction.inspect.survey import SETS, Survey, route_name
from pipelines.correction.models import Models
from pipelines.correction.rows import COMPARE, CORRECT
from pipelines.published.erased import ERASED, MESSAGE

SURVEYED = pa.schema([("sets", SETS)])


@dataclass(frozen=True)
class ReadSettings:
    """Settings of reading. detected: folder of the labels that `detect` wrote for rows without labels, or None.
    compare: images without defects that are FID's reference. score_scale: divisor of the catalog's scores.
    """

    label_map: LabelMap
    detected: str | None = None
    compare: Sample = field(default_factory=lambda: Sample({}))
    score_scale: float = 1.0


def read_works(table: pa.Table, settings: ReadSettings) -> Iterator[pa.Table]:
    """Yield `read_work` of every row of WORK."""
    for work in Work.from_table(table):
        yield from read_work(work, settings)


def read_work(work: Work, settings: ReadSettings) -> Iterator[pa.Table]:
    """Yield tables of CATALOG_ROW with the needed rows of one unit. Raises StorageReadError."""
    plan = read_plan(work)
    pending, makes = is_pending(plan), plan.column("times").to_numpy() > 0
    start = 0
    for rows in read_rows(work.unit, _detected(work, settings), settings.score_scale):
        part = slice(start, start + rows.num_rows)
        start = part.stop
        wanted = pending[part] | (_compared(rows, pending[part], settings) & makes[part])
        if not wanted.any():
            continue
        first = work.unit.first + part.start
        columns: dict[str, Any] = {
            name: plan.column(name).slice(part.start, rows.num_rows)
            for name in ("input_version", "row_key", "work_key", "times")
        }
        positions = [f"{work.unit.uri} row {first + index}" for index in range(rows.num_rows)]
        columns["position"] = pa.array(positions, pa.string())
        columns |= _refusals(plan.column("refused").slice(part.start, rows.num_rows), positions)
        columns["purpose"] = pa.array(np.where(pending[part], CORRECT, COMPARE))
        columns |= {name: rows.column(name) for name in rows.column_names}
        table = pa.table([columns[name] for name in CATALOG_ROW.names], schema=CATALOG_ROW)
        yield table.filter(pa.array(wanted))


def _refusals(refused: pa.ChunkedArray, positions: list[str]) -> dict[str, pa.Array]:
    """Return the columns that say why rows fail whatever their images are; null for rows that do not.

    refused: that column of PLAN.
    """
    reasons = [
        (ERASED, MESSAGE)
        if count == IS_ERASED
        else (DUPLICATE_ID, refusal(count, position))
        if count
        else (None, None)
        for count, position in zip(refused.to_pylist(), positions, strict=True)
    ]
    return {
        name: pa.array(values, pa.string())
        for name, values in zip(("refusal", "refusal_message"), zip(*reasons, strict=True), strict=True)
    }


def _detected(work: Work, settings: ReadSettings) -> pa.ChunkedArray | None:
    """Return the labels that this run's detector gave the unit; nulls if none of its rows needs work."""
    if settings.detected is None:
        return None
    if work.pending:
        return read_detected(settings.detected, work.unit)
    return pa.chunked_array([pa.nulls(work.unit.rows, LABELS)])


def _compared(rows: pa.Table, pending: np.ndarray, settings: ReadSettings) -> np.ndarray:
    """Return which rows are read only because FID compares others with them."""
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


def survey_detected(
    table: pa.Table, label_map: LabelMap, models: Models, sample_size: int, detected: str
) -> pa.Table:
    """Return one row of SURVEYED: the routes of the rows that the detector labelled. Raises StorageReadError."""
    survey = Survey(sample_size)
    for work in Work.from_table(table):
        by_route: dict[str, list[str]] = {}
        rows = zip(read_small_rows(work.unit), read_label_rows(work.unit, detected), strict=True)
        for needs, (row, (image_id, labels, product_type)) in zip(
            to_read(read_plan(work)), rows, strict=True
        ):
            if needs and row.unlabelled:
                route = label_map.route(labels, product_type)
                name = route_name(route.defects, route.unknown, models.in_canary(str(image_id)))
                by_route.setdefault(name, []).append(str(image_id))
        survey.add(by_route)
    return pa.Table.from_pylist([{"sets": survey.sets()}], SURVEYED)
