"""Tables of photos to training shards with Ray Data: each row group in a task, only counts come back.

A unit of work is a row group of an input file, and its outputs are named after it. So the same input gives
the same files with the same bytes whatever the parallelism, and a task that is tried again writes over what
it had written. Nothing that grows with the photos reaches the driver: counts, and a bounded list of those
that cannot be read.
"""

import hashlib
import heapq
import io
import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.dataset import PhotoSettings, catalog_row, read_photo, reference_row, training_rows
from pipelines.decode import ImageError
from pipelines.schemas import CATALOG, REFERENCE, SHARD
from pipelines.splits import TEST, hash_number, split_of

logger = logging.getLogger(__name__)

#: Photos per shard file: about 20 MB, small enough to be held whole and large enough to be read in one go.
PHOTOS_PER_FILE = 256
#: Photos decoded from the input at a time.
READ_BATCH = 32
#: Unreadable photos listed by name in dataset.json; all are counted.
LISTED_UNREADABLE = 20
#: Beyond this many row groups, several share a Ray block: a block costs some 60 ms.
MAX_BLOCKS = 2000
#: At most one line of progress in this time.
LOG_SECONDS = 10

REQUIRED = {
    "image_id": "string, unique",
    "image": "binary (encoded photo) or struct with bytes",
}
OPTIONAL = {
    "mask": "binary (8-bit grey PNG of the photo's size, 255 is product) or struct with bytes",
    "product_type": "string",
}
#: Footers read at a time: on object storage each costs a round trip or two.
FOOTER_THREADS = 16


@dataclass(frozen=True)
class Unit:
    """A row group of a file, and the stem of the names of what is made from it."""

    uri: str
    row_group: int
    rows: int
    name: str


@dataclass(frozen=True)
class Outputs:
    """Where files go."""

    shards: str
    test_catalog: str | None = None  # folder of catalog/ and reference/; None: not wanted
    last_hash: str | None = (
        None  # hex: test photos up to this place in the order of hashes; None: all of them
    )


@dataclass
class Totals:
    """What was done; adds up over units."""

    counts: Counter[str] = field(default_factory=Counter)  # 'kind/key/key' -> n
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)  # (image_id, code, message), bounded
    fingerprint: int = 0  # sum of the rows' hashes modulo 2^256: whatever their order and division into files

    def add_row(self, row: dict[str, Any]) -> None:
        """Count a training row."""
        keys = (row["defect"], row["pairing"], row["split"], row["product_type"] or "unknown")
        self.counts["rows/" + "/".join(key.replace("/", " ") for key in keys)] += 1
        self.fingerprint = (self.fingerprint + _row_hash(row)) % 2**256

    def add_unreadable(self, image_id: str, code: str, message: str) -> None:
        """Count a photo that cannot be read."""
        self.counts["photos/unreadable"] += 1
        self.counts[f"unreadable/{code}"] += 1
        self.unreadable = sorted([*self.unreadable, (image_id, code, message)])[:LISTED_UNREADABLE]

    def merge(self, other: "Totals") -> None:
        """Add `other` to this."""
        self.counts.update(other.counts)
        self.unreadable = sorted(self.unreadable + other.unreadable)[:LISTED_UNREADABLE]
        self.fingerprint = (self.fingerprint + other.fingerprint) % 2**256

    def to_json(self) -> str:
        """For the way from a task to the driver."""
        return json.dumps([self.counts, self.unreadable, f"{self.fingerprint:x}"])

    @staticmethod
    def from_json(text: str) -> "Totals":
        """Inverse of `to_json`."""
        counts, unreadable, fingerprint = json.loads(text)
        return Totals(Counter(counts), [tuple(item) for item in unreadable], int(fingerprint, 16))


def _row_hash(row: dict[str, Any]) -> int:
    digest = hashlib.sha256()
    for name in SHARD.names:
        value = row[name]
        data = (
            b""
            if value is None
            else value
            if isinstance(value, bytes)
            else str(value).encode("utf-8", "surrogatepass")
        )
        digest.update(f"{name}:{-1 if value is None else len(data)}:".encode() + data)
    return int.from_bytes(digest.digest(), "big")


def list_units(uris: Sequence[str], limit: int | None = None) -> list[Unit]:
    """The row groups of all parquet files at or below `uris`, in order; at most `limit` photos in all.

    Raises ConfigurationError where there is no file, or a file lacks a column.
    """
    units: list[Unit] = []
    left = limit
    files = _files(uris)
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        sizes = list(pool.map(_row_groups, files))
    for index, (uri, groups) in enumerate(zip(files, sizes, strict=True)):
        for group, rows in enumerate(groups):
            if left is not None:
                rows = min(rows, left)
                left -= rows
            if rows:
                units.append(Unit(uri, group, rows, f"part-{index:05}-{group:05}"))
    if not units:
        raise ConfigurationError(
            f"--photos: no rows in {', '.join(uris)}; give tables with at least one photo"
        )
    return units


def _files(uris: Sequence[str]) -> list[str]:
    files: list[str] = []
    for uri in uris:
        found = storage.list_files(uri, ".parquet")
        if not found:
            raise ConfigurationError(
                f"--photos: no .parquet file at {uri}; give a file or a folder of parquet tables of photos"
            )
        files += found
    if len(set(files)) < len(files):
        raise ConfigurationError("--photos: the same file is named twice; name each table once")
    return files


def _row_groups(uri: str) -> list[int]:
    fs, path = storage.arrow_filesystem(uri)
    try:
        with pq.ParquetFile(path, filesystem=fs) as file:
            _check_columns(uri, file.schema_arrow)
            return [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except pa.ArrowInvalid as error:
        raise ConfigurationError(
            f"--photos: {uri} is not a parquet file ({error}); remove it or name the tables"
        ) from error


def _check_columns(uri: str, schema: pa.Schema) -> None:
    """Raise ConfigurationError with all complaints about a table's columns."""
    complaints = [f"no column {name}" for name in REQUIRED if name not in schema.names]
    for name in (*REQUIRED, *OPTIONAL):
        if name in schema.names and not _has_type(name, schema.field(name).type):
            complaints.append(f"column {name} of type {schema.field(name).type}")
    if complaints:
        wanted = "; ".join(f"{name}: {what}" for name, what in REQUIRED.items())
        optional = "; ".join(f"{name}: {what}" for name, what in OPTIONAL.items())
        raise ConfigurationError(
            f"--photos: {uri} has {', '.join(complaints)} (its columns are {', '.join(schema.names)}); "
            f"a table of photos needs {wanted}, and may have {optional}"
        )


def _has_type(name: str, found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_null(found):
        return name in OPTIONAL
    if name in ("image_id", "product_type"):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    if pa.types.is_struct(found):
        if found.get_field_index("bytes") < 0:
            return False
        found = found.field("bytes").type
    return bool(pa.types.is_binary(found) or pa.types.is_large_binary(found))


def records(unit: Unit) -> Iterator[dict[str, Any]]:
    """A unit's records, a few in memory at a time; image and mask are bytes or None."""
    fs, path = storage.arrow_filesystem(unit.uri)
    with pq.ParquetFile(path, filesystem=fs) as file:
        columns = [name for name in (*REQUIRED, *OPTIONAL) if name in file.schema_arrow.names]
        done = 0
        for batch in file.iter_batches(READ_BATCH, row_groups=[unit.row_group], columns=columns):
            for record in batch.slice(0, unit.rows - done).to_pylist():
                yield {
                    name: value["bytes"] if isinstance(value, dict) else value
                    for name, value in record.items()
                }
            done += batch.num_rows
            if done >= unit.rows:
                return


def prepare_unit(unit: Unit, settings: PhotoSettings, outputs: Outputs) -> Totals:
    """Write the shards, and the test catalog's share, of one unit; return its counts.

    Photos that cannot be read are counted and left out.
    """
    totals = Totals()
    source = records(unit)
    for number in range(-(-unit.rows // PHOTOS_PER_FILE)):
        chunk = islice(source, PHOTOS_PER_FILE)
        _prepare_chunk(chunk, f"{unit.name}-{number:05}.parquet", settings, outputs, totals)
    return totals


def _prepare_chunk(
    chunk: Iterable[dict[str, Any]], name: str, settings: PhotoSettings, outputs: Outputs, totals: Totals
) -> None:
    rows, catalog, reference = [], [], []
    for record in chunk:
        if not record["image_id"]:
            totals.add_unreadable("", "no_image_id", "image_id is empty")
            continue
        try:
            photo = read_photo(record, settings)
        except ImageError as error:
            totals.add_unreadable(record["image_id"], error.code, str(error))
            continue
        totals.counts["photos/read"] += 1
        totals.counts[f"masks/{photo.mask_state}"] += 1
        for row in training_rows(photo, settings):
            rows.append(row)
            totals.add_row(row)
        if _in_test_catalog(photo.image_id, outputs):
            catalog.append(catalog_row(photo, settings))
            reference.append(reference_row(photo))
    _write(storage.join(outputs.shards, name), rows, SHARD)
    if outputs.test_catalog:
        totals.counts["test_catalog/catalog"] += _write(
            storage.join(outputs.test_catalog, "catalog", name), catalog, CATALOG
        )
        totals.counts["test_catalog/reference"] += _write(
            storage.join(outputs.test_catalog, "reference", name), reference, REFERENCE
        )


def _write(uri: str, rows: Sequence[dict[str, Any] | None], schema: pa.Schema) -> int:
    """Write the rows that are not None, whole; nothing where there are none. Returns their number."""
    present = [row for row in rows if row is not None]
    if present:
        buffer = io.BytesIO()
        # Encoded images do not compress; small row groups let a reader shuffle without holding the file.
        pq.write_table(pa.Table.from_pylist(present, schema), buffer, compression="none", row_group_size=64)
        storage.write_bytes(uri, buffer.getvalue())
    return len(present)


def _catalog_order(image_id: str) -> int:
    return hash_number("test-catalog", image_id)


def _in_test_catalog(image_id: str, outputs: Outputs) -> bool:
    if outputs.test_catalog is None or split_of(image_id) != TEST:
        return False
    return outputs.last_hash is None or _catalog_order(image_id) <= int(outputs.last_hash, 16)


def last_catalog_hash(units: Sequence[Unit], size: int) -> str | None:
    """The hash, in hex, up to which test photos are the first `size` in order of hash; None takes them all.

    Reads the ids alone; holds `size` numbers.
    """
    smallest = heapq.nsmallest(size, (_catalog_order(i) for i in _image_ids(units) if split_of(i) == TEST))
    return f"{smallest[-1]:x}" if len(smallest) == size else None


def _image_ids(units: Sequence[Unit]) -> Iterator[str]:
    for unit in units:
        fs, path = storage.arrow_filesystem(unit.uri)
        with pq.ParquetFile(path, filesystem=fs) as file:
            ids = file.read_row_group(unit.row_group, columns=["image_id"])["image_id"].slice(0, unit.rows)
        yield from (value.as_py() for value in ids if value.is_valid)


def prepare(units: Sequence[Unit], settings: PhotoSettings, outputs: Outputs) -> Totals:
    """Prepare all units with Ray Data on the Ray that is connected; returns the sum of their counts."""
    import ray

    totals = Totals()
    logged = time.monotonic()
    blocks = min(len(units), MAX_BLOCKS)
    dataset = ray.data.from_items([asdict(unit) for unit in units], override_num_blocks=blocks)

    def prepare_row(row: dict[str, Any]) -> dict[str, Any]:
        return {"totals": prepare_unit(Unit(**row), settings, outputs).to_json()}

    done = dataset.map(prepare_row)
    for count, row in enumerate(done.iter_rows(), 1):
        totals.merge(Totals.from_json(row["totals"]))
        if time.monotonic() - logged >= LOG_SECONDS:
            logged = time.monotonic()
            logger.info("%d of %d row groups, %d photos", count, len(units), totals.counts["photos/read"])
    return totals
