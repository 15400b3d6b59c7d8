"""Catalog rows to decoded rows: fetch, identify, route, decode, shrink to the model's input. Failures
become columns.
"""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray

from pipelines.allowed_uris import AllowedUris
from pipelines.correction.known import Known, shared
from pipelines.correction.row_keys import image_key, to_keys
from pipelines.correction.rows import COMPARE, DECODED, REFRESH, to_table
from pipelines.correction.survey import route_name
from pipelines.decode import DecodeLimits, ImageError
from pipelines.decode_process import decode_apart
from pipelines.fetch import read_upload
from pipelines.fit import fit_inside
from pipelines.label_map import LabelMap, Route
from pipelines.sampling import Sample

#: Rows held decoded at a time.
_BATCH = 16
#: Uploads fetched at once in one task: each waits for storage, not for a CPU.
_FETCH_THREADS = 8


@dataclass(frozen=True)
class DecodeSettings:
    """What decoding needs to know; small, it travels with every task.

    sample, strips: who is kept for FID and for the report's pictures. known: what earlier runs did.
    """

    label_map: LabelMap
    image_size: int  # side of the model's input
    fit: str = "stretch"  # how images get onto it
    sample: Sample = field(default_factory=lambda: Sample({}))
    strips: Sample = field(default_factory=lambda: Sample({}))
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    allowed: AllowedUris = field(default_factory=AllowedUris)  # where rows without bytes may be read from
    known: "Known | ray.ObjectRef[Known]" = field(default_factory=Known)


def decode_rows(table: pa.Table, settings: DecodeSettings) -> Iterator[pa.Table]:
    """Tables of DECODED from a table of `read_catalog.CATALOG_ROW`; one row out for each row in."""
    known = shared(settings.known)
    with ThreadPoolExecutor(_FETCH_THREADS) as pool:
        for start in range(0, table.num_rows, _BATCH):
            rows = table.slice(start, _BATCH).to_pylist()
            uploads = pool.map(lambda row: _fetch(row, settings), rows)
            decoded = [
                _decode(row, upload, settings, known) for row, upload in zip(rows, uploads, strict=True)
            ]
            yield to_table(decoded, DECODED)


def _fetch(row: dict[str, Any], settings: DecodeSettings) -> bytes | ImageError:
    if row["image"] is not None:
        return bytes(row["image"])
    if not row["source_uri"]:
        return ImageError("no_image", "the row has neither image bytes nor a uri")
    try:
        return read_upload(row["source_uri"], settings.allowed, settings.limits.max_bytes)
    except ImageError as error:
        return error


def _decode(
    row: dict[str, Any], upload: bytes | ImageError, settings: DecodeSettings, known: Known
) -> dict[str, Any]:
    """One row of DECODED."""
    started = time.perf_counter()
    labels = [(label["label"], label["score"]) for label in row["labels"] or ()]
    route = settings.label_map.route(labels, row["product_type"])
    name = route_name(route.defects, route.unknown)
    decoded: dict[str, Any] = {
        "image_id": row["image_id"],
        "source_uri": row["source_uri"],
        "product_type": row["product_type"],
        "route": name,
        "defects": list(route.defects),
        **{name: row[name] for name in ("purpose", "input_version", "row_key", "work_key")},
    }
    try:
        if isinstance(upload, ImageError):
            raise upload
        decoded["input_sha256"] = hashlib.sha256(upload).hexdigest()
        if _is_settled(decoded, known):
            if settings.sample.has(name, row["image_id"]) and not route.defects:
                decoded |= {"sampled": True, "upload": upload}  # others are compared with it
            return {**decoded, "decode_seconds": time.perf_counter() - started}
        _check_labels(route, settings.label_map)
        side = settings.image_size
        # Exactly as training makes its inputs (pipelines.training.decoding).
        image, (width, height) = decode_apart(upload, settings.limits, max_side=2 * side)
        decoded |= {"width": width, "height": height}
        if row["labels"] is None:  # without labels it would pass for an image without defects
            raise ImageError(
                "not_labelled", "the detector could not read the image, which can be read now; run again"
            )
        decoded["sampled"] = settings.sample.has(name, row["image_id"])
        decoded["in_strip"] = settings.strips.has(name, row["image_id"])
        if route.defects:
            decoded["model_input"] = fit_inside(image, (width, height), side, settings.fit).tobytes()
        if route.defects or decoded["sampled"]:
            decoded["upload"] = upload
    except ImageError as error:
        decoded |= {"error_code": error.code, "error_message": error.message}
    return {**decoded, "decode_seconds": time.perf_counter() - started}


def _is_settled(decoded: dict[str, Any], known: Known) -> bool:
    """Whether this image needs no correction: it was done before, as its bytes now show, or it is only compared with.

    Where it was done before, the row's purpose becomes REFRESH.
    """
    if decoded["purpose"] == COMPARE:
        return True
    decoded["image_key"] = key = image_key(decoded["work_key"], decoded["input_sha256"])
    if known.images.copies(to_keys([key]))[0] != 1:
        return False
    decoded["purpose"] = REFRESH
    return True


def _check_labels(route: Route, label_map: LabelMap) -> None:
    if route.unknown and label_map.unknown_labels == "fail":
        labels = ", ".join(repr(label) for label in route.unknown)
        raise ImageError("unknown_label", f"no rule of the label map names {labels} (unknown_labels: fail)")
