"""Time and memory of a run over an unchanged catalog.

    python -m tests.benchmarks.finding_what_is_done --rows 1000000

Draws a catalog of rows with the URIs of their images, and the manifest that a run over it would have left. Then it
takes the steps of the next run, each in its own process, like a Ray task. No image is drawn: half of the rows have the
catalog's own hash, and the storage is asked about the others (one local file). Seconds are of one core.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.catalog import list_catalog
from pipelines.correction.inspect.known import build_known
from pipelines.correction.inspect.pending import Inspection, InspectSettings, groups, inspect_units
from pipelines.correction.inspect.repeated import find_repeated
from pipelines.correction.inspect.survey import Survey
from pipelines.correction.models import Model, Models
from pipelines.correction.publish.assemble import PART_ROWS, assemble, sources
from pipelines.correction.publish.staying import find_staying
from pipelines.images.allowed_uris import AllowedUris
from pipelines.images.uploads import input_version
from pipelines.published.layout import Layers
from pipelines.published.row_keys import image_key, row_key, work_key
from tests.benchmarks.timing import peak

MODELS = Models("output", Model(None, "--model", "model", 256, "letterbox", "configuration"))


def draw(folder: Path, rows: int) -> None:
    """Write the catalog and the manifest."""
    photo = folder / "photo.jpg"
    photo.write_bytes(b"x" * 1000)
    photo_version = input_version(str(photo), AllowedUris((str(folder),)))
    (folder / "catalog").mkdir()
    (folder / "manifest").mkdir()
    for part, start in enumerate(range(0, rows, PART_ROWS)):
        ids = [
            f"shop-{number % 997}/upload-{number:012}"
            for number in range(start, min(start + PART_ROWS, rows))
        ]
        hashes = [f"{number:064x}" if number % 2 else None for number in range(len(ids))]
        labels = [[{"label": "watermark", "score": 0.9}] for _ in ids]
        catalog = pa.table(
            {"image_id": ids, "uri": [str(photo)] * len(ids), "labels": labels, "sha256": hashes}
        )
        pq.write_table(catalog, folder / "catalog" / f"{part:05}.parquet")
        work = [work_key(name, "watermark", MODELS.identity(MODELS.current)) for name in ids]
        versions = [f"sha256:{digest}" if digest else photo_version for digest in hashes]
        keys = [row_key(one, str(photo), None, version) for one, version in zip(work, versions, strict=True)]
        fixed: dict[str, Any] = {
            "image_id": ids,
            "source_uri": [str(photo)] * len(ids),
            "status": ["corrected"] * len(ids),
            "output_uri": [f"/out/images/watermark/{name}.jpg" for name in ids],
            "input_sha256": [
                f"{number:064x}" for number in np.random.default_rng(part).integers(0, 2**63, len(ids))
            ],
            "input_version": versions,
            "row_key": keys,
            "image_key": [image_key(one, "") for one in work],
            "corrected_at": [datetime.now(timezone.utc)] * len(ids),
        }
        columns = [pa.array(fixed.get(field.name, [None] * len(ids)), field.type) for field in MANIFEST]
        pq.write_table(
            pa.table(columns, schema=MANIFEST), folder / "manifest" / f"{part:05}.parquet", compression="zstd"
        )


def measured(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """Return the result, the seconds of one core and the growth of resident memory in MB, in a fresh process."""
    before, started = peak(), time.process_time()
    result = function(*arguments)
    return result, time.process_time() - started, peak() - before


def inspect_all(folder: Path, settings: InspectSettings) -> Inspection:
    """Run what tasks and the driver do, one after the other."""
    inspection = Inspection(Survey(settings.sample_size))
    for table in groups(list_catalog([str(folder / "catalog")]).units):
        inspection.merge(inspect_units(table, settings))
    return inspection


def assemble_all(folder: Path, parts: list[str], rows: int, known: Any, staying: Any) -> int:
    """Write the next manifest and return its number of rows."""
    (folder / "aside").mkdir()
    tables = [
        assemble(one, str(folder / "next"), str(folder / "aside"), known, staying, MODELS)
        for one in sources([parts], [[rows / len(parts)] * len(parts)])
    ]
    return sum(sum(table.column("rows").to_pylist()) for table in tables)


def steps(folder: Path, rows: int) -> None:
    """Take the steps and print a line for each."""

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            result, seconds, megabytes = process.submit(measured, function, *arguments).result()
        sys.stdout.write(f"{name:<44}{seconds:8.1f} s{megabytes:8.0f} MB\n")
        sys.stdout.flush()
        return result

    parts = sorted(str(path) for path in (folder / "manifest").iterdir())
    known, _ = step("keys of the manifest", build_known, Layers([parts]))
    held = 16 * (len(known.rows) + len(known.images)) / 2**20
    sys.stdout.write(f"{'  held on each node':<54}{held:8.0f} MB\n")
    settings = InspectSettings(
        LabelMap.default(), MODELS, str(folder / "plan"), known, 10_000, allowed=AllowedUris((str(folder),))
    )
    inspection = step("look at the catalog", inspect_all, folder, settings)
    plans = sorted(str(path) for path in (folder / "plan").iterdir())
    step("ids that occur twice", find_repeated, plans)
    sys.stdout.write(f"{inspection.rows} rows, {inspection.pending} need work\n")
    staying = step("what stays, if something had changed", find_staying, plans, [])
    written = step("the next manifest, if something had", assemble_all, folder, parts, rows, known, staying)
    if inspection.pending or written != rows:
        raise SystemExit("the run found changes, so the figures do not count")


def main(argv: Sequence[str] | None = None) -> None:
    """Draw and measure."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--rows", type=int, default=1_000_000)
    rows = p.parse_args(argv).rows
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name), rows)
        steps(Path(name), rows)


if __name__ == "__main__":
    main()
