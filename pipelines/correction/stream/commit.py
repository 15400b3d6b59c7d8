"""Applies edits to the uploads at full resolution, and writes images and journal; returns one small summary row.

Every object's name comes from its rows, so that a task that is tried again writes the same bytes to the same keys.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipelines import storage
from pipelines.cluster.memory import keep_freed_memory
from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.deliver.deliver import Delivered, DeliverySettings, deliver
from pipelines.correction.deliver.gate_detector import Remaining
from pipelines.correction.deliver.gates import Rejection
from pipelines.correction.inspect.survey import CURRENT
from pipelines.correction.models import Models
from pipelines.correction.rows import (
    CORRECT,
    REFRESH,
    REFRESHED,
    SAMPLE,
    SAMPLES,
    STRIP,
    STRIPS,
    to_table,
)
from pipelines.correction.stream.totals import summarise
from pipelines.images.decode import DecodeLimits, ImageError
from pipelines.images.decode_apart import DecoderStartError, decode_apart, decode_image_apart
from pipelines.images.encode import encode_image
from pipelines.images.metadata import Metadata
from pipelines.images.resize import resize_bicubic, shrink_bicubic
from pipelines.inference.edits.apply import apply_edits
from pipelines.published.layout import REFRESHED_FOLDER, RunFolder
from pipelines.published.object_names import image_uri
from pipelines.published.parts import parquet_bytes, part_name, write_object

logger = logging.getLogger(__name__)

FID_SIDE = 256  # the FID network's input is made from images of this side
STRIP_SIDE = 320  # the report shows pictures about half as large, on screens of double density
STRIP_QUALITY = 85

#: Error code of a row that failed with an unexpected exception, which its message names.
UNEXPECTED = "unexpected"
#: Objects that one task writes at the same time: each waits for the storage, not for a CPU.
_WRITE_THREADS = 8


@dataclass(frozen=True)
class CommitSettings:
    """Settings of committing; small, because they travel with every task."""

    output: str
    attempt: str  # names the folders of what it writes
    models: Models
    groups: Mapping[str, str]  # of each defect
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    # When the run began, not when the row was written, so that a task that is tried again writes the same bytes.
    corrected_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def journal(self) -> str:
        """Folder of this attempt's journal."""
        return RunFolder(self.output).journal(self.attempt)


@dataclass
class _Row:
    """The result for one image. manifest: its row; empty if it needs none. times: how many such rows it makes.
    beside: for an image of the canary, the status that the current bundle's correction would have, if it was made.
    """

    manifest: dict[str, Any]
    times: int = 1
    encoded: bytes | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    strip: dict[str, Any] | None = None
    beside: str | None = None


class _Rejected(NamedTuple):
    """A correction that a gate rejected: its pixels, uint8 (H,W,3), and the gate's code and message."""

    image: np.ndarray
    code: str
    message: str


def commit_block(table: pa.Table, settings: CommitSettings) -> pa.Table:
    """Commit a block of EDITED rows and return one row of SUMMARY. Raises StorageWriteError."""
    torch.set_num_threads(1)  # as many tasks run as there are cores
    keep_freed_memory()
    started = time.perf_counter()
    detector = settings.delivery.detector
    remaining = None if detector is None else detector.load()
    committed = []
    written = 0  # bytes
    rows = table.to_pylist()
    with _writer(settings.output) as write:
        for row in rows:
            needs_work = row["purpose"] == CORRECT
            done = _commit_row(row, settings, remaining) if needs_work else _only_sample(row, settings)
            if done.encoded is not None:
                write(done.manifest["output_uri"], done.encoded)
                written += len(done.encoded)
            done.times = row["times"]
            done.encoded = None  # written; a block of large images must not pile up
            committed.append(done)
    # After the images: the journal names only what has been written.
    written += _write_parts(rows, committed, settings)
    seconds = {name: pc.sum(table[name]).as_py() or 0.0 for name in ("decode_seconds", "generator_seconds")}
    seconds["commit_seconds"] = time.perf_counter() - started
    routes = [
        row["route"]
        for row, done in zip(rows, committed, strict=True)
        if done.manifest
        for _ in range(done.times)
    ]
    beside = [
        (row["defects"][0] + CURRENT, done.beside)
        for row, done in zip(rows, committed, strict=True)
        if done.beside is not None
        for _ in range(done.times)
    ]
    refreshed = sum(row["purpose"] == REFRESH for row in rows)
    sizes = {"read_bytes": pc.sum(table["input_bytes"]).as_py() or 0, "written_bytes": written}
    return summarise(_manifest(committed), routes, seconds, refreshed, sizes, beside)


def _commit_row(row: dict[str, Any], settings: CommitSettings, remaining: Remaining | None) -> _Row:
    defect = row["defects"][0] if row["defects"] else None
    model = settings.models.of(row["image_id"])
    manifest = {
        **{
            name: row[name]
            for name in ("image_id", "source_uri", "product_type", "defects", "width", "height")
        },
        **{name: row[name] for name in ("input_sha256", "input_version", "row_key", "image_key")},
        "status": "passthrough",
        "group": settings.groups[defect] if defect else None,
        "defect": defect,
        "model_version": model.version,
        "config_hash": model.config_hash,
        "error_code": row["error_code"],
        "error_message": row["error_message"],
        "corrected_at": settings.corrected_at,
    }
    done = _Row(manifest)
    try:
        if row["error_code"] is not None:
            manifest["status"] = "failed"
        elif defect:
            _correct(row, settings, remaining, done)
        elif row["sampled"]:
            done.samples.append(_sample(row, decode_image_apart(row["upload"], settings.limits), None))
    except ImageError as error:  # the header and a shrunk decode were fine, but the whole image is not
        manifest |= {"status": "failed", "error_code": error.code, "error_message": error.message}
    except DecoderStartError:  # a failure of the machine: the task is tried again
        raise
    except Exception as error:  # noqa: BLE001 (one image too large for memory or encoder must not end the job)
        done = _Row(manifest | {"output_uri": None, "output_sha256": None, "status": "failed"})
        done.manifest |= {"error_code": UNEXPECTED, "error_message": f"{type(error).__name__}: {error}"}
    return done


def _correct(row: dict[str, Any], settings: CommitSettings, remaining: Remaining | None, done: _Row) -> None:
    before, _, metadata = decode_apart(row["upload"], settings.limits)

    def deliver_edits(edits: Any) -> Delivered | _Rejected:
        return _delivered(before, {**row, "edits": edits}, settings, remaining, metadata)

    made = deliver_edits(row["edits"])
    if isinstance(made, _Rejected):
        done.manifest |= {"status": "rejected", "error_code": made.code, "error_message": made.message}
    else:
        done.encoded = made.encoded
        digest = hashlib.sha256(made.encoded).hexdigest()
        done.manifest |= {
            "status": "corrected",
            "output_uri": image_uri(settings.output, row["defects"][0], row["image_id"], digest, made.format),
            "output_sha256": digest,
            "profile_issues": made.issues,
        }
        # FID describes what is published.
        if row["sampled"]:
            done.samples.append(_sample(row, before, made.image))
    if row["in_strip"]:
        done.strip = _strip(row, before, made)
    if settings.models.is_compared(row):
        _compare(row, deliver_edits, done)


def _compare(row: dict[str, Any], deliver_edits: Callable[[Any], Delivered | _Rejected], done: _Row) -> None:
    """Add the current bundle's correction of an image of the canary: its status, sample and picture.

    A pair of samples stays only if both corrections would be published, so that FID compares them on equal images.
    """
    samples, done.samples, done.beside = done.samples, [], "failed"
    if row["current_edits"] is None:  # the generator's answer was not finite
        return
    try:
        made = deliver_edits(row["current_edits"])
        rejected = made.message if isinstance(made, _Rejected) else None
        picture = _picture(made.image)
    except Exception as error:  # noqa: BLE001 (the image itself is corrected, and must not fail for this)
        logger.warning("%s could not be corrected to compare: %s", row["image_id"], error)
        return
    done.beside = "corrected" if rejected is None else "rejected"
    if done.strip is not None:
        done.strip |= {"current": picture, "current_rejected": rejected}
    if rejected is None:
        done.samples = [{**one, "current": _fid_image(made.image)} for one in samples]


def _delivered(
    before: np.ndarray,
    row: dict[str, Any],
    settings: CommitSettings,
    remaining: Remaining | None,
    metadata: Metadata,
) -> Delivered | _Rejected:
    """Apply a row's edits to its upload and judge the result. before: the upload's pixels, uint8 (H,W,3)."""
    backgrounds = [defect in settings.delivery.background_defects for defect in row["defects"]]
    edited = apply_edits(before, row["edits"], backgrounds)
    try:
        return deliver(before, edited, row, settings.delivery, remaining, metadata)
    except Rejection as rejection:
        return _Rejected(edited.image, rejection.code, rejection.message)


# Samples and pictures of a delivered image have the encoder's losses.
def _strip(row: dict[str, Any], before: np.ndarray, made: Delivered | _Rejected) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("image_id", "route", "product_type")},
        "before": _picture(before),
        "after": _picture(made.image),
        "rejected": made.message if isinstance(made, _Rejected) else None,
    }


def _sample(row: dict[str, Any], before: np.ndarray, after: np.ndarray | None) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("image_id", "route")},
        "before": _fid_image(before),
        "after": None if after is None else _fid_image(after),
    }


def _fid_image(image: np.ndarray) -> bytes:
    return encode_image(resize_bicubic(image, FID_SIDE, FID_SIDE), "png")


def _picture(image: np.ndarray) -> bytes:
    """Return a JPEG whose longer side is at most STRIP_SIDE."""
    return encode_image(shrink_bicubic(image, STRIP_SIDE, quickly=True), "jpeg", STRIP_QUALITY)


def _only_sample(row: dict[str, Any], settings: CommitSettings) -> _Row:
    """Return the sample of an image that needs no correction, if it is one of those that FID compares with."""
    done = _Row({})
    if row["sampled"] and row["upload"] is not None:
        with suppress(ImageError):
            done.samples.append(_sample(row, decode_image_apart(row["upload"], settings.limits), None))
    return done


def _manifest(committed: list[_Row]) -> list[dict[str, Any]]:
    """Return the manifest rows of a block: for each image as many as the catalog has."""
    return [done.manifest for done in committed if done.manifest for _ in range(done.times)]


def _write_parts(rows: list[dict[str, Any]], committed: list[_Row], settings: CommitSettings) -> int:
    """Write the block's parts of the journal, of refreshed rows and of samples, each under the block's own name.

    Returns the number of bytes.
    """
    name = part_name(row["position"] for row in rows)
    run = RunFolder(settings.output)
    parts = (
        (settings.journal, MANIFEST, _manifest(committed)),
        (run.at(REFRESHED_FOLDER), REFRESHED, [row for row in rows if row["purpose"] == REFRESH]),
        (run.at(SAMPLES, settings.attempt), SAMPLE, [one for done in committed for one in done.samples]),
        (run.at(STRIPS, settings.attempt), STRIP, [done.strip for done in committed if done.strip]),
    )
    written = 0
    # The journal last: a row in it means that everything of its image is written.
    for folder, schema, records in reversed(parts):
        if records:
            data = parquet_bytes(to_table(records, schema))
            write_object(storage.join(folder, name), data)
            written += len(data)
    return written


@contextmanager
def _writer(output: str) -> Iterator[Any]:
    """Yield a function that writes an object in the background. Leaving the context waits, and raises what a write
    raised.
    """
    pending: list[Future[None]] = []
    with ThreadPoolExecutor(_WRITE_THREADS) as pool:

        def write(uri: str, data: bytes) -> None:
            pending.append(pool.submit(write_object, uri, data, output))
            if len(pending) >= 2 * _WRITE_THREADS:  # at most these are held in memory
                pending.pop(0).result()

        yield write
        for future in pending:
            future.result()
