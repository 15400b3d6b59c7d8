"""Reads the rows that need work, and those that others are compared with, out of the units that have any."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from pipelines import storage
from pipelines.allowed_uris import AllowedUris
from pipelines.correction.decode_rows import fetch_uploads
from pipelines.correction.detected import read_detected
from pipelines.correction.known import fetched
from pipelines.correction.parts import parquet_bytes, part_name, write_object
from pipelines.correction.pending import Work, is_pending, read_plan
from pipelines.correction.read_catalog import CATALOG_ROW, read_label_rows, read_rows, read_small_rows
from pipelines.correction.repeated import LOOKED, Conflicts, refused_key
from pipelines.correction.row_keys import KEY, KeySet, id_keys, key_of
from pipelines.correction.rows import COMPARE, CORRECT, to_table
from pipelines.correction.survey import SETS, Survey, route_name
from pipelines.decode import DecodeLimits, ImageError
from pipelines.label_map import LabelMap
from pipelines.sampling import Sample
from pipelines.schemas import LABELS

LOOKS = pa.schema([("looked", pa.int64())])
SURVEYED = pa.schema([("sets", SETS)])


@dataclass(frozen=True)
class ReadSettings:
    """What reading needs to know. detected: the folder where `detect` left the labels of rows that have none, or None.
    compare: images without defects that are FID's reference. conflicts: ids whose rows fail. score_scale: what the
    catalog's scores are divided by.
    """

    label_map: LabelMap
    detected: str | None = None
    compare: Sample = field(default_factory=lambda: Sample({}))
    conflicts: "Conflicts | ray.ObjectRef[Conflicts]" = field(default_factory=Conflicts)
    score_scale: float = 1.0


def read_works(table: pa.Table, settings: ReadSettings) -> Iterator[pa.Table]:
    """Tables of CATALOG_ROW of every row of WORK."""
    for work in Work.from_table(table):
        yield from read_work(work, settings)


def read_work(work: Work, settings: ReadSettings) -> Iterator[pa.Table]:
    """Tables of CATALOG_ROW of a unit's rows that are needed. Raises StorageReadError."""
    plan = read_plan(work)
    pending = is_pending(plan)
    conflicts = fetched(settings.conflicts)
    start = 0
    for rows in read_rows(work.unit, _detected(work, settings), settings.score_scale):
        part = slice(start, start + rows.num_rows)
        start = part.stop
        wanted = pending[part] | _compared(rows, pending[part], settings)
        if not wanted.any():
            continue
        first = work.unit.first + part.start
        columns: dict[str, Any] = {
            name: plan.column(name).slice(part.start, rows.num_rows)
            for name in ("input_version", "row_key", "work_key")
        }
        found = [
            refused if needs else None
            for refused, needs in zip(
                conflicts.of(rows.column("image_id").to_pylist()), pending[part], strict=True
            )
        ]
        if any(found):
            keys = columns["row_key"].to_pylist()
            columns["row_key"] = pa.array(
                [refused_key(key, one[0]) if one else key for key, one in zip(keys, found, strict=True)], KEY
            )
        columns["refusal"] = pa.array([one and one[1] for one in found], pa.string())
        columns["place"] = pa.array(
            [f"{work.unit.uri} row {first + index}" for index in range(rows.num_rows)]
        )
        columns["purpose"] = pa.array(np.where(pending[part], CORRECT, COMPARE))
        columns |= {name: rows.column(name) for name in rows.column_names}
        table = pa.table([columns[name] for name in CATALOG_ROW.names], schema=CATALOG_ROW)
        yield table.filter(pa.array(wanted))


def _detected(work: Work, settings: ReadSettings) -> pa.ChunkedArray | None:
    """What the detector of this run said of the unit; it has not been asked where nothing needs work."""
    if settings.detected is None:
        return None
    if work.pending:
        return read_detected(settings.detected, work.unit)
    return pa.chunked_array([pa.nulls(work.unit.rows, LABELS)])


@dataclass(frozen=True)
class LookSettings:
    """contested: keys of ids whose rows are looked at. folder: where LOOKED goes."""

    read: ReadSettings
    contested: "KeySet | ray.ObjectRef[KeySet]"
    folder: str
    limits: DecodeLimits
    allowed: AllowedUris = field(default_factory=AllowedUris)


def look(table: pa.Table, settings: LookSettings) -> pa.Table:
    """Compare images of contested ids: writes LOOKED of every row of WORK; returns one row of LOOKS each.

    Raises StorageReadError and StorageWriteError.
    """
    contested = fetched(settings.contested)
    counts = []
    for work in Work.from_table(table):
        found: list[dict[str, Any]] = []
        for rows in read_work(work, settings.read):
            keys = id_keys(rows.column("image_id").to_pylist())
            chosen = rows.filter(pa.array(contested.has(keys)))
            asked = chosen.to_pylist()
            uploads = fetch_uploads(asked, settings.limits, settings.allowed)
            for row, upload in zip(asked, uploads, strict=True):
                content = upload.code if isinstance(upload, ImageError) else sha256(upload).hexdigest()
                labels = [(label["label"], label["score"]) for label in row["labels"] or ()]
                route = settings.read.label_map.route(labels, row["product_type"])
                key = key_of("id", row["image_id"])
                found.append({"id_key": key, **row, "content": f"{content} {route.defects} {route.unknown}"})
        if found:
            name = part_name([row["place"] for row in found])
            write_object(storage.join(settings.folder, name), parquet_bytes(to_table(found, LOOKED)))
        counts.append({"looked": len(found)})
    return pa.Table.from_pylist(counts, LOOKS)


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
