"""Turns catalog rows into decoded rows: fetches, identifies, routes, decodes, and shrinks to the model's input.
Failures become columns.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from pipelines.cluster.placement import fetched
from pipelines.contracts.label_map import LabelMap, Route
from pipelines.contracts.sampling import Sample
from pipelines.correction.inspect.known import Known
from pipelines.correction.inspect.repeated import DUPLICATE_ID
from pipelines.correction.inspect.survey import route_name
from pipelines.correction.models import Model, Models
from pipelines.correction.rows import COMPARE, CORRECT, DECODED, PURPOSE_NAMES, REFRESH, to_table
from pipelines.images.allowed_uris import AllowedUris
from pipelines.images.decode import DecodeLimits, ImageError
from pipelines.images.decode_apart import decode_apart
from pipelines.images.fit import fit_inside
from pipelines.images.uploads import read_upload
from pipelines.published.erased import ERASED
from pipelines.published.row_keys import STATED_SHA256, image_key, to_keys

#: Error code of a row whose labels, not its image, are the reason.
UNKNOWN_LABEL = "unknown_label"
#: Codes of failures that another image at the same URI would not repair.
_NOT_OF_THE_IMAGE = {DUPLICATE_ID, ERASED, "no_image"}
#: Rows whose images are in memory at the same time.
_BATCH = 16
#: Uploads that one task fetches at the same time: each waits for the storage, not for a CPU.
_FETCH_THREADS = 8


@dataclass(frozen=True)
class DecodeSettings:
    """Settings of decoding; small, because they travel with every task.

    sample, strips: images to keep for FID and for the report's pictures. known: finished work of earlier runs.
    """

    label_map: LabelMap
    models: Models
    sample: Sample = field(default_factory=lambda: Sample({}))
    strips: Sample = field(default_factory=lambda: Sample({}))
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    allowed: AllowedUris = field(default_factory=AllowedUris)  # URIs that rows without bytes may be read from
    known: "Known | ray.ObjectRef[Known]" = field(default_factory=Known)


def decode_rows(table: pa.Table, settings: DecodeSettings) -> Iterator[pa.Table]:
    """Yield tables of DECODED for a table of `catalog.CATALOG_ROW`: one row out for each row in."""
    known = fetched(settings.known)
    for start in range(0, table.num_rows, _BATCH):
        rows = table.slice(start, _BATCH).to_pylist()
        with ThreadPoolExecutor(_FETCH_THREADS) as pool:
            uploads = list(pool.map(lambda row: _fetch(row, settings.limits, settings.allowed), rows))
        decoded = [_identify(row, upload, settings, known) for row, upload in zip(rows, uploads, strict=True)]
        for one, row, upload in zip(decoded, rows, uploads, strict=True):
            if one["error_code"] is None:
                _decode(one, row, upload, settings)
        yield to_table(decoded, DECODED)


def _fetch(row: Mapping[str, Any], limits: DecodeLimits, allowed: AllowedUris) -> bytes | ImageError:
    """Return a row's encoded image, or the error if it cannot be read."""
    if row["refusal"] is not None:
        return ImageError(row["refusal"], row["refusal_message"])
    if row["image"] is not None:
        return bytes(row["image"])
    if not row["source_uri"]:
        return ImageError("no_image", "the row has neither image bytes nor a uri")
    try:
        return read_upload(row["source_uri"], allowed, limits.max_bytes)
    except ImageError as error:
        return error


def _identify(
    row: dict[str, Any], upload: bytes | ImageError, settings: DecodeSettings, known: Known
) -> dict[str, Any]:
    """Return the columns of DECODED that are known before the image is decoded."""
    started = time.perf_counter()
    labels = [(label["label"], label["score"]) for label in row["labels"] or ()]
    route = settings.label_map.route(labels, row["product_type"])
    identified: dict[str, Any] = {
        **{name: row[name] for name in ("image_id", "source_uri", "product_type", *PURPOSE_NAMES)},
        "route": route_name(route.defects, route.unknown, settings.models.in_canary(row["image_id"])),
        "defects": list(route.defects),
        "error_code": None,
    }
    try:
        if isinstance(upload, ImageError):
            raise upload
        identified["input_sha256"] = hashlib.sha256(upload).hexdigest()
        identified["input_bytes"] = len(upload)
        identified["purpose"] = _purpose(identified, known)
        if identified["purpose"] == CORRECT:
            _check_labels(route, settings.label_map)
    except ImageError as error:
        identified |= {"error_code": error.code, "error_message": error.message}
    if not _is_as_stated(identified):
        identified["row_key"] = None  # the next run looks again
    return {**identified, "decode_seconds": time.perf_counter() - started}


def _is_as_stated(identified: Mapping[str, Any]) -> bool:
    """Return False if the catalog states the hash of an image that is not at its URI, at least not yet."""
    version = identified["input_version"] or ""
    if not version.startswith(STATED_SHA256) or identified["error_code"] in _NOT_OF_THE_IMAGE:
        return True
    return bool(version.removeprefix(STATED_SHA256).lower() == identified.get("input_sha256"))


def _decode(
    decoded: dict[str, Any], row: Mapping[str, Any], upload: bytes | ImageError, settings: DecodeSettings
) -> None:
    """Decode a row's upload, if it was read, and add the columns that the next steps need."""
    name, defects = decoded["route"], decoded["defects"]
    if isinstance(upload, ImageError):
        return
    decoded["sampled"] = settings.sample.has(name, row["image_id"])
    if decoded["purpose"] != CORRECT:
        if decoded["sampled"] and not defects:  # corrected images are compared with it
            decoded["upload"] = upload
        return
    started = time.perf_counter()
    model = settings.models.of(row["image_id"])
    try:
        image, size = _shrunk(upload, model, settings.limits)
        decoded |= {"width": size[0], "height": size[1]}
        if row["labels"] is None:  # must not pass for an image without defects
            decoded |= {"row_key": None, "image_key": None}  # the next run tries it again
            raise ImageError(
                "not_labelled", "the detector could not read the image, which can be read now; run again"
            )
        decoded["in_strip"] = settings.strips.has(name, row["image_id"])
        if defects:
            decoded["model_input"] = _fitted(image, size, model)
            if settings.models.is_compared(decoded):
                current = settings.models.current
                with suppress(ImageError):  # there will be no comparison
                    if current.image_size != model.image_size:
                        image, size = _shrunk(upload, current, settings.limits)
                    decoded["current_input"] = _fitted(image, size, current)
        if defects or decoded["sampled"]:
            decoded["upload"] = upload
    except ImageError as error:
        decoded |= {"error_code": error.code, "error_message": error.message}
    decoded["decode_seconds"] += time.perf_counter() - started


# Both exactly as training makes its inputs (`pipelines.shards.reading`).
def _shrunk(upload: bytes, model: Model, limits: DecodeLimits) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return an upload as large as a model needs it, and its own (width, height). Raises ImageError."""
    image, size, _ = decode_apart(upload, limits, max_side=2 * model.image_size)
    return image, size


def _fitted(image: NDArray[np.uint8], size: tuple[int, int], model: Model) -> bytes:
    return fit_inside(image, size, model.image_size, model.fit).tobytes()


def _purpose(decoded: dict[str, Any], known: Known) -> str:
    """Return what to do with an image now that its bytes are known. Adds its `image_key`, if it may have one."""
    if decoded["purpose"] == COMPARE:
        return COMPARE
    if decoded["work_key"] is None:
        return CORRECT
    decoded["image_key"] = key = image_key(decoded["work_key"], decoded["input_sha256"])
    return REFRESH if known.images.copies(to_keys([key]))[0] == 1 else CORRECT


def _check_labels(route: Route, label_map: LabelMap) -> None:
    if route.unknown and label_map.unknown_labels == "fail":
        labels = ", ".join(repr(label) for label in route.unknown)
        raise ImageError(UNKNOWN_LABEL, f"no rule of the label map names {labels} (unknown_labels: fail)")
