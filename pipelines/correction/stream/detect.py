"""Labels the rows of a catalog that have no labels, with a detector, before the correction; writes one file per unit.

    OUTPUT/labels/<run>/<unit>.parquet    image_id, labels: one row per row of the unit, in its order

Labels are null if the catalog has labels of its own, if the row needs no work, or if the image cannot be read; in the
last case the row fails in the correction, with its code. Names and bytes follow from the catalog and the detector, so
that a task that is tried again writes the same.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import torch
from numpy.typing import NDArray

from model.errors import RunError
from model.precision import choose_device
from pipelines.cluster.placement import Placement, configure, tables
from pipelines.cluster.progress import Progress
from pipelines.contracts.schemas import DETECTED, LABELS
from pipelines.correction.catalog import UnlabelledRow, read_unlabelled
from pipelines.correction.detected import file_of
from pipelines.correction.inspect.pending import Work, read_plan, sources, to_read
from pipelines.images.allowed_uris import AllowedUris
from pipelines.images.decode import DecodeLimits, ImageError
from pipelines.images.uploads import read_upload
from pipelines.inference.labeller import Found, Labeller, load_labeller, read_input
from pipelines.published.parts import write_object
from pipelines.storage.parquet_units import READ_ROWS, Unit

#: Images per pass of the detector: no more than are read at the same time.
_GPU_BATCH, _CPU_BATCH = READ_ROWS, 8
#: Uploads that an actor fetches and decodes at the same time. Many cores feed a GPU.
_GPU_THREADS, _CPU_THREADS = 16, 2
#: Small, because a block holds the counts of one unit.
_BLOCK_BYTES = 1 << 20

#: An actor's answer for one unit: its rows, how many of them had no labels, and how many of these could not be read.
COUNTS = pa.schema([("rows", pa.int64()), ("unlabelled", pa.int64()), ("unreadable", pa.int64())])


@dataclass(frozen=True)
class DetectSettings:
    """Settings of an actor. folder: OUTPUT/labels/<run>. detector, version: URI and version of the bundle."""

    folder: str
    detector: str
    version: str
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    allowed: AllowedUris = field(default_factory=AllowedUris)  # URIs that rows without bytes may be read from


def detect(works: Sequence[Work], settings: DetectSettings, placement: Placement) -> dict[str, int]:
    """Label the rows that need work and have no labels; return the sums of COUNTS over the units of `works`.

    Raises RunError and whatever Ray raises.
    """
    configure(_BLOCK_BYTES, ["StorageReadError", "StorageWriteError", "DecoderStartError"])
    units = ray.data.from_arrow(sources(works))
    counts = placement.actors(
        units, Detection, {"settings": settings, "device": placement.device}, 1, whole_blocks=True
    )
    totals = dict.fromkeys(COUNTS.names, 0)
    rows = sum(work.unit.rows for work in works)
    with Progress("detecting", rows, sys.stderr) as progress:
        for table in tables(counts):
            for row in table.to_pylist():
                totals = {name: totals[name] + row[name] for name in totals}
                progress.update(row["rows"], row["unreadable"])
    if totals["rows"] != rows:
        raise RunError(f"the detector saw {totals['rows']} of {rows} rows; run again")
    return totals


class Detection:
    """Labels whole units. Runs in an actor that holds the detector."""

    def __init__(self, settings: DetectSettings, device: str) -> None:
        """Load the detector onto `device` ('cpu' or 'cuda')."""
        chosen = choose_device(device)
        on_gpu = chosen.type == "cuda"
        if not on_gpu:
            torch.set_num_threads(1)  # actors share the cores
        self._settings, self._threads = settings, _GPU_THREADS if on_gpu else _CPU_THREADS
        batch = _GPU_BATCH if on_gpu else _CPU_BATCH
        self._labeller = load_labeller(settings.detector, settings.version, chosen, batch)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Label the units of a table of WORK, write their files, and return one row of COUNTS for each."""
        return pa.Table.from_pylist([self._label(work) for work in Work.from_table(table)], COUNTS)

    def _label(self, work: Work) -> dict[str, int]:
        ids: list[str | None] = []
        labels: list[Found | None] = []
        unreadable = unlabelled = 0
        pending = to_read(read_plan(work))
        for part in read_unlabelled(work.unit):
            needed = pending[len(ids) : len(ids) + len(part)]
            rows = [
                row._replace(unlabelled=row.unlabelled and bool(needs))
                for row, needs in zip(part, needed, strict=True)
            ]
            waiting = [row for row in rows if row.unlabelled]
            detected = iter(label_uploads(self._labeller, waiting, self._settings, self._threads))
            for row in rows:
                row_labels = next(detected) if row.unlabelled else None
                unreadable += row.unlabelled and row_labels is None
                ids.append(row.image_id)
                labels.append(row_labels)
            unlabelled += len(waiting)
        write_labels(self._settings.folder, work.unit, ids, labels)
        return {"rows": len(ids), "unlabelled": unlabelled, "unreadable": unreadable}


def label_uploads(
    labeller: Labeller, rows: Sequence[UnlabelledRow], settings: DetectSettings, threads: int
) -> Iterator[Found | None]:
    """Yield the labels of each row's upload in order; None for an upload that cannot be read."""

    def load(row: UnlabelledRow) -> NDArray[np.uint8] | None:
        try:
            if row.image is None and not row.uri:
                return None
            data = row.image
            if data is None:
                data = read_upload(str(row.uri), settings.allowed, settings.limits.max_bytes)
            return read_input(data, labeller.bundle.image_size, settings.limits)
        except ImageError:
            return None

    with ThreadPoolExecutor(threads) as pool:
        loaded = pool.map(load, rows)
        while part := list(islice(loaded, labeller.batch)):
            usable = [image for image in part if image is not None]
            labels = iter(labeller(usable) if usable else ())
            yield from (None if image is None else next(labels) for image in part)


def write_labels(folder: str, unit: Unit, ids: Sequence[str | None], labels: Sequence[Found | None]) -> None:
    """Write the labels of one unit. Raises StorageWriteError."""
    column = [
        None if of_row is None else [{"label": label, "score": score} for label, score in of_row]
        for of_row in labels
    ]
    table = pa.table([pa.array(ids, pa.string()), pa.array(column, LABELS)], schema=DETECTED)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    write_object(file_of(folder, unit), buffer.getvalue().to_pybytes())
