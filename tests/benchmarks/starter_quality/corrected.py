"""Runs the cases through the correction job and reads what it published."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contracts.schemas import CATALOG, REFERENCE
from pipelines.correction import job
from pipelines.correction.plan import CorrectionConfig, resolve
from pipelines.images.encode import encode_image
from tests.benchmarks.starter_quality.cases import ANGLE, BACKGROUND, CLEAN, LABELS, MARK_ON_WHITE, Case
from tests.benchmarks.starter_quality.samples import CLOTHING, Sample

#: Tasks with FID and KID; the reference is clothing on white.
COMPARED = (BACKGROUND, MARK_ON_WHITE, ANGLE)


class Published(NamedTuple):
    """An outcome: the manifest's status, the gate's or error's code and message, and the encoded picture or None."""

    status: str
    code: str | None
    message: str | None
    picture: bytes | None


class Results(NamedTuple):
    """The outcomes of one bundle by case, and its fid.json's rows by defect (of clothing on white)."""

    published: dict[str, Published]
    fid: dict[str, Any]


def correct(
    cases: Sequence[Case], bundle: str, reference: Sequence[Sample], scratch: Path, actors: tuple[int, int]
) -> Results:
    """Correct all cases, as JPEG or, if they are clean, as PNG, where every change counts.

    bundle: absolute folder or URI. reference: images for KID; empty leaves it out. scratch: absolute folder. Raises
    CatalogRepairError.
    """
    clean = [case for case in cases if case.task in CLEAN]
    compared = [case for case in cases if case.task in COMPARED and case.kind == CLOTHING]
    chosen_ids = {case.case_id for case in (*clean, *compared)}
    others = [case for case in cases if case.case_id not in chosen_ids]
    settings = {"model": bundle, "actors": actors}
    fid: dict[str, Any] = {"fid": False}
    if reference:
        write_reference(scratch / "reference.parquet", reference)
        fid = {"reference": str(scratch / "reference.parquet")}
    published: dict[str, Published] = {}
    for name, part, more in (
        ("compared", compared, fid),
        ("others", others, {"fid": False}),
        ("clean", clean, {"fid": False, "format": "png"}),
    ):
        if part:
            published |= run_job(part, scratch / name, {**settings, **more})
    report = scratch / "compared" / "report" / "fid.json"
    return Results(
        published, json.loads(report.read_text())["defects"] if reference and report.exists() else {}
    )


def run_job(cases: Sequence[Case], output: Path, settings: Mapping[str, Any]) -> dict[str, Published]:
    """Correct the cases into `output` with these settings of CorrectionConfig; return each outcome by case id."""
    catalog = output.with_suffix(".parquet")
    rows = [
        {
            "image_id": case.case_id,
            "image": case.upload,
            "labels": [{"label": LABELS[case.task], "score": 1.0}],
            "product_type": case.product_type,
        }
        for case in cases
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=CATALOG), catalog)
    job.run(resolve(CorrectionConfig((str(catalog),), str(output), **settings)))
    columns = ["image_id", "status", "error_code", "error_message", "output_uri"]
    return {
        row["image_id"]: Published(
            row["status"],
            row["error_code"],
            row["error_message"],
            None if row["output_uri"] is None else Path(row["output_uri"]).read_bytes(),
        )
        for row in pq.read_table(output / "manifest", columns=columns).to_pylist()
    }


def write_reference(path: Path, samples: Sequence[Sample]) -> None:
    """Write perfect composites to compare with."""
    rows = [
        {"image_id": sample.image_id, "image": encode_image(sample.white), "defect": None}
        for sample in samples
        if sample.white is not None
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=REFERENCE), path)
