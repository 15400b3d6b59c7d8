"""Prepares one unit: writes its entries to shards, and a record that marks it as done.

Runs in a Ray task, or in an actor that holds a saliency network. A unit is retried if a worker dies or storage fails.
Names and bytes are then the same, because they depend on the plan alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.errors import RunError
from pipelines import storage
from pipelines.contracts.schemas import CATALOG, REFERENCE, SHARD
from pipelines.images.decode import ImageError
from pipelines.images.encode import encode_image
from pipelines.images.resize import shrink_bicubic
from pipelines.preparation.entries import Record
from pipelines.preparation.plan.plan import Plan, in_test_catalog, read_entries
from pipelines.preparation.totals import QUALITY_BINS, Example, Totals, UnitRecord
from pipelines.preparation.unit.resolve import records
from pipelines.preparation.unit.rows import (
    JudgedMask,
    RowSettings,
    Sample,
    catalog_row,
    read_sample,
    reference_row,
    training_rows,
    with_saliency,
)
from pipelines.saliency import Saliency, load_saliency
from pipelines.shards.writer import ShardWriter

#: Photos per call of the saliency network: enough to fill a GPU, few enough to hold decoded (0.4 MB each at 384
#: pixels).
SALIENCY_BATCH = 16
#: Longest side of the report's pictures, pixels.
EXAMPLE_SIDE = 176

#: Folders of the test catalog: uploads with a defect, and clean images to compare corrections with.
HELD_BACK = {"catalog": CATALOG, "reference": REFERENCE}

UNITS = pa.schema([("unit", pa.int64())])
#: A unit's result for the driver; the rest is in its record.
SUMMARY = pa.schema([("unit", pa.int64()), ("entries", pa.int64()), ("unreadable", pa.int64())])


class UnitStorageError(RunError):
    """Storage failed while a unit was prepared. It is retried; then the run ends and can be continued."""


@dataclass(frozen=True)
class Work:
    """The instructions to workers: plan, settings, and the URIs to read and write."""

    plan: Plan
    settings: RowSettings
    plan_folder: str
    done_folder: str
    shards: str
    shard_bytes: int
    test_catalog: str | None = None  # folder of catalog/ and reference/; None if it is not wanted
    saliency: str | None = None  # name or URI of a network; None uses only the masks that come with photos
    saliency_device: str = "cpu"

    def stem(self, unit: int) -> str:
        """Return the beginning of the names of a unit's files."""
        return f"part-{unit:06}"

    def held_back(self, name: str) -> str:
        """Return the URI of a folder of the test catalog, if one is wanted."""
        return storage.join(self.test_catalog or "", name)

    def done(self, unit: int) -> str:
        """Return the URI of a unit's record."""
        return storage.join(self.done_folder, f"{unit:06}.parquet")

    def units_left(self) -> list[int]:
        """Return the units without a record, which are still to be prepared."""
        done = {int(PurePosixPath(uri).stem) for uri in storage.list_files(self.done_folder, ".parquet")}
        return [unit for unit in range(self.plan.units) if unit not in done]


class UnitWorker:
    """Prepares units in an actor that loads the saliency network once."""

    def __init__(self, work: Work) -> None:
        """Raise ConfigurationError if the network cannot be loaded."""
        self._work = work
        self._saliency = None if work.saliency is None else load_saliency(work.saliency, work.saliency_device)

    def __call__(self, units: pa.Table) -> pa.Table:
        """Prepare units: schema UNITS to schema SUMMARY."""
        summaries = [prepare_unit(unit, self._work, self._saliency) for unit in units["unit"].to_pylist()]
        return pa.Table.from_pylist(summaries, SUMMARY)


def prepare_units(units: pa.Table, work: Work) -> pa.Table:
    """Prepare units in a task, without saliency: schema UNITS to schema SUMMARY."""
    return UnitWorker(work)(units)


def prepare_unit(unit: int, work: Work, saliency: Saliency | None = None) -> dict[str, int]:
    """Write one unit's shards, its part of the test catalog and, last, its record; return a row of SUMMARY.

    Images that cannot be read are counted and left out. Raises UnitStorageError if storage fails.
    """
    try:
        record = _prepare(unit, work, saliency)
        storage.write_bytes(work.done(unit), record.to_bytes())
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        raise UnitStorageError(f"unit {unit}: {type(error).__name__}: {error}") from error
    counts = record.totals.counts
    return {
        "unit": unit,
        "entries": counts["entries/prepared"] + counts["entries/unreadable"],
        "unreadable": counts["entries/unreadable"],
    }


def _prepare(unit: int, work: Work, saliency: Saliency | None) -> UnitRecord:
    done = UnitRecord()
    with ExitStack() as files:
        shards = files.enter_context(
            ShardWriter(
                *(work.shards, work.stem(unit), SHARD, work.shard_bytes),
                images=("source", "target", "mask", "photo"),
                shared=("target", "mask", "photo"),
            )
        )
        held_back = _HeldBack(work, unit, files) if work.test_catalog else None
        entries = read_entries(work.plan_folder, work.plan.span(unit))
        for sample in _samples(records(entries), work.settings, saliency, done):
            rows = list(training_rows(sample, work.settings))
            shards.add(rows)
            for row in rows:
                done.totals.add_row(row)
            _count(sample, done)
            if held_back is not None:
                held_back.add(sample, rows, done.totals)
    done.shards = shards.names
    return done


def _samples(
    unread: Iterable[Record], settings: RowSettings, saliency: Saliency | None, done: UnitRecord
) -> Iterator[Sample]:
    """Yield decoded samples in order. Photos without a mask get one from `saliency`, SALIENCY_BATCH at a time."""
    samples = _readable(unread, settings, done)
    if saliency is None:
        yield from samples
        return
    while chunk := list(islice(samples, SALIENCY_BATCH)):
        yield from _masked(chunk, settings, saliency)


def _readable(unread: Iterable[Record], settings: RowSettings, done: UnitRecord) -> Iterator[Sample]:
    """Yield decoded samples in order and count those that cannot be read. Holds one record's bytes."""
    for record in unread:
        try:
            yield read_sample(record, settings)
        except ImageError as error:
            done.totals.add_unreadable(record.entry.image_id, error.code, str(error))


def _masked(samples: Sequence[Sample], settings: RowSettings, saliency: Saliency) -> Iterator[Sample]:
    bare = [sample.source for sample in samples if sample.is_photo and sample.mask is None]
    masks = iter(saliency([image for image in bare if image is not None]) if bare else ())
    for sample in samples:
        is_bare = sample.is_photo and sample.mask is None
        yield with_saliency(sample, next(masks), settings) if is_bare else sample


def _count(sample: Sample, done: UnitRecord) -> None:
    counts = done.totals.counts
    counts["entries/prepared"] += 1
    kind = (
        "photo"
        if sample.is_photo
        else "product"
        if sample.entry.defect is None
        else "given pair"
        if sample.source is not None and sample.target is not None
        else "given unpaired"
    )
    counts[f"kinds/{kind}"] += 1
    if sample.mask_missing is not None:
        counts[f"masks/{sample.mask_missing}"] += 1
    if sample.mask_error is not None:
        counts[f"unreadable_masks/{sample.mask_error}"] += 1
    if sample.mask is not None:
        _count_mask(sample, sample.mask, done)


def _count_mask(sample: Sample, mask: JudgedMask, done: UnitRecord) -> None:
    counts = done.totals.counts
    verdict = "good" if mask.accepted else "doubtful"
    counts[f"masks/{verdict}" if mask.origin == "given" else f"masks/saliency_{verdict}"] += 1
    counts[f"quality/{min(QUALITY_BINS - 1, int(mask.quality * QUALITY_BINS)):02}"] += 1
    if not mask.accepted:
        counts[f"doubtful_because/{mask.lowest}"] += 1
    image_id = sample.entry.image_id
    if sample.source is not None and done.wants(mask.quality, image_id, mask.accepted):
        grey = np.repeat(mask.alpha[..., None], 3, axis=2)
        pictures = [_small(image) for image in (sample.source, grey, mask.composite)]
        done.show(Example(image_id, mask.quality, mask.lowest, mask.origin, *pictures), mask.accepted)


def _small(image: NDArray[np.uint8]) -> bytes:
    return encode_image(shrink_bicubic(image, EXAMPLE_SIDE), "jpeg", quality=80)


class _HeldBack:
    """A unit's part of the test catalog."""

    def __init__(self, work: Work, unit: int, files: ExitStack) -> None:
        self._last_hash = work.plan.last_hash
        self._catalog, self._reference = (
            files.enter_context(
                ShardWriter(work.held_back(name), work.stem(unit), schema, work.shard_bytes, ("image",))
            )
            for name, schema in HELD_BACK.items()
        )

    def add(self, sample: Sample, rows: Sequence[dict[str, object]], totals: Totals) -> None:
        """Add the sample if it is held back and within the limit."""
        if not in_test_catalog(sample.entry, self._last_hash):
            return
        for name, writer, row in (
            ("catalog", self._catalog, catalog_row(sample, rows)),
            ("reference", self._reference, reference_row(sample)),
        ):
            if row is not None:
                writer.add([row])
                totals.counts[f"test_catalog/{name}"] += 1
