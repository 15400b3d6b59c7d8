"""Reads the images that FID is computed from: samples of the run and the reference. Imports no torch."""

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.correction.inspect.survey import CLEAN, CURRENT, defect_of
from pipelines.metrics.reference import EVERY_DEFECT, Reference, read_images
from pipelines.storage.parquet_units import Unit

IMAGES = pa.schema([("set", pa.string()), ("image_id", pa.string()), ("image", pa.binary())])
#: A source of images: a part of samples, or a unit of the reference as JSON.
SOURCE = pa.schema([("sample_part", pa.string()), ("reference_unit", pa.string())])

#: A set's name is one of these and a defect; REFERENCE + EVERY_DEFECT if the images serve all defects.
BEFORE, AFTER, REFERENCE = "before/", "after/", "reference/"
#: Images per table, for one call of the network's actor, which divides them as its memory allows.
BATCH = 32


def read_source(table: pa.Table, reference: Reference) -> Iterator[pa.Table]:
    """Yield tables of IMAGES for rows of SOURCE."""
    for row in table.to_pylist():
        if row["sample_part"] is not None:
            images = _sample_images(row["sample_part"])
        else:
            unit = json.loads(row["reference_unit"])
            unit["row_groups"] = tuple(unit["row_groups"])
            images = (
                (REFERENCE + name, key, image)
                for name, key, image in read_images(Unit(**unit), reference.sample)
            )
        yield from _batched(images)


def _sample_images(uri: str) -> Iterator[tuple[str, str, bytes]]:
    for row in pq.read_table(pa.BufferReader(storage.read_bytes(uri))).to_pylist():
        if row["route"] == CLEAN:
            yield REFERENCE + EVERY_DEFECT, row["image_id"], row["before"]
        else:
            yield BEFORE + row["route"], row["image_id"], row["before"]
            yield AFTER + row["route"], row["image_id"], row["after"]
            if row["current"] is not None:
                yield AFTER + defect_of(row["route"]) + CURRENT, row["image_id"], row["current"]


def _batched(images: Iterator[tuple[str, str, bytes]]) -> Iterator[pa.Table]:
    rows: list[tuple[str, str, bytes]] = []
    for image in images:
        rows.append(image)
        if len(rows) == BATCH:
            yield _images_table(rows)
            rows = []
    if rows:
        yield _images_table(rows)


def _images_table(rows: Sequence[tuple[str, str, bytes]]) -> pa.Table:
    columns = [
        pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), IMAGES, strict=True)
    ]
    return pa.table(columns, schema=IMAGES)
