"""Publishes nights of corrections without correcting: rows, and an image for each, as a run leaves them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.rows import to_table
from pipelines.published.layout import RunFolder
from pipelines.published.object_names import IMAGES, image_uri
from pipelines.published.parts import parquet_bytes
from pipelines.published.publish import Publication, publish
from pipelines.published.records import write_run

DEFECT = "watermark"


def row(output: str, image_id: str, content: str | None) -> dict[str, Any]:
    """Write an image, and return its manifest row; content None: a row without one."""
    one: dict[str, Any] = {"image_id": image_id, "source_uri": f"/uploads/{image_id}", "row_key": b"r" * 16}
    if content is None:
        return {**one, "status": "passthrough"}
    data = content.encode()
    digest = hashlib.sha256(data).hexdigest()
    uri = image_uri(output, DEFECT, image_id, digest, "png")
    storage.write_bytes(uri, data)
    return {**one, "status": "corrected", "output_uri": uri, "output_sha256": digest, "width": 3}


def prepare(output: str, run: str, *parts: Mapping[str, str | None]) -> Publication:
    """Write a run that is ready to publish. parts: content of the images by id, for each part of the manifest."""
    folder = RunFolder(output)
    folder.begin_attempt()
    names = [f"part-{run}-{number}.parquet" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        rows = [row(output, image_id, content) for image_id, content in part.items()]
        storage.write_bytes(folder.at("manifest", name), parquet_bytes(to_table(rows, MANIFEST)))
    storage.write_bytes(folder.at("report", "index.html"), run.encode())
    write_run(output, {"run": run, "manifest_run": run, "state": "complete"})
    return Publication(run, sum(map(len, parts)), names, ["index.html"], success=True)


def night(output: str, run: str, *parts: Mapping[str, str | None], success: bool = True) -> None:
    """Publish a run; see `prepare`."""
    ready = prepare(output, run, *parts)
    if not success:
        write_run(output, {"run": run, "manifest_run": run, "state": "too many failed"})
    publish(output, replace(ready, success=success))


def rows_of(output: str, *folder: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a manifest by id; by default of the current one."""
    parts = storage.list_files(storage.join(output, *(folder or ("manifest",))), ".parquet")
    tables = [pq.read_table(pa.BufferReader(storage.read_bytes(part))) for part in parts]
    return {one["image_id"]: one for table in tables for one in table.to_pylist()}


def contents(output: str, *folder: str) -> dict[str, str | None]:
    """Return the contents of the images of a manifest's rows by id. Raises FileNotFoundError if one is gone."""
    found: dict[str, str | None] = {}
    for image_id, one in rows_of(output, *folder).items():
        data = None if one["output_uri"] is None else storage.read_bytes(one["output_uri"])
        assert data is None or hashlib.sha256(data).hexdigest() == one["output_sha256"]
        found[image_id] = None if data is None else data.decode()
    return found


def images(output: str) -> set[str]:
    """Return the contents of all images that there are."""
    return {storage.read_bytes(uri).decode() for uri in storage.list_files(storage.join(output, IMAGES))}


def told(output: str, name: str = "run.json") -> dict[str, Any]:
    """Return the content of a JSON file in the output."""
    content: dict[str, Any] = json.loads(storage.read_bytes(storage.join(output, name)))
    return content
