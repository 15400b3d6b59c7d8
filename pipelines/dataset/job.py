"""Tables of photos to training shards with Ray Data: each unit in a task, only counts come back.

A unit of work is a run of row groups of an input file, and its outputs are named after its place there. So
the same input gives the same files with the same bytes whatever the parallelism, and a task that is tried
again writes over what it had written. Nothing that grows with the photos reaches the driver: counts, and a
bounded list of those that cannot be read.
"""

import hashlib
import heapq
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.dataset.photos import PhotoSettings, catalog_row, read_photo, reference_row, training_rows
from pipelines.decode import ImageError
from pipelines.parquet_units import UNIT, Listing, Unit, list_units, read_unit
from pipelines.progress import Progress
from pipelines.schemas import CATALOG, REFERENCE, SHARD
from pipelines.splits import TEST, hash_number, split_of

#: Photos per shard file: about 20 MB, small enough to be held whole and large enough to be read in one go.
PHOTOS_PER_FILE = 256
#: Unreadable photos listed by name in dataset.json; all are counted.
LISTED_UNREADABLE = 20
#: Beyond this many units, several share a Ray block: a block costs some 60 ms.
MAX_BLOCKS = 2000

REQUIRED = {
    "image_id": "string, unique",
    "image": "binary (encoded photo) or struct with bytes",
}
OPTIONAL = {
    "mask": "binary (8-bit grey PNG of the photo's size, 255 is product) or struct with bytes",
    "product_type": "string",
}


@dataclass(frozen=True)
class Outputs:
    """Where files go."""

    shards: str
    test_catalog: str | None = None  # folder of catalog/ and reference/; None: not wanted
    last_hash: str | None = None  # hex: of the last test photo, in order of hashes; None: all of them


@dataclass
class Totals:
    """What was done; adds up over units."""

    counts: Counter[str] = field(default_factory=Counter)  # 'kind/key/key' -> n
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)  # (image_id, code, message), bounded
    fingerprint: int = 0  # sum of the rows' hashes modulo 2^256: whatever their order and files

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


def list_photos(uris: Sequence[str], limit: int | None = None) -> Listing:
    """Units of the tables at or below `uris`, in order; at most `limit` photos in all.

    Raises ConfigurationError where there is no photo, a file is named twice, or a column is not as it should.
    """
    listing = list_units(uris, "--photos", _check_columns, limit)
    if not listing.rows:
        raise ConfigurationError(
            f"--photos: no rows in {', '.join(uris)}; give tables with at least one photo"
        )
    if len({(unit.uri, unit.first) for unit in listing.units}) < len(listing.units):
        raise ConfigurationError("--photos: the same file is named twice; name each table once")
    return listing


def _check_columns(schema: pa.Schema, uri: str) -> None:
    """Raise ConfigurationError with all complaints about a table's columns."""
    complaints = [f"no column {name}" for name in REQUIRED if name not in schema.names]
    for name in (*REQUIRED, *OPTIONAL):
        if name in schema.names and not _has_type(name, schema.field(name).type):
            complaints.append(f"column {name} of type {schema.field(name).type}")
    if complaints:
        wanted = "; ".join(f"{name}: {what}" for name, what in REQUIRED.items())
        optional = "; ".join(f"{name}: {what}" for name, what in OPTIONAL.items())
        raise ConfigurationError(
            f"--photos {uri}: has {', '.join(complaints)} (its columns are {', '.join(schema.names)}); "
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
    for _, table in read_unit(unit, (*REQUIRED, *OPTIONAL)):
        for record in table.to_pylist():
            yield {
                name: value["bytes"] if isinstance(value, dict) else value for name, value in record.items()
            }


def prepare_unit(unit: Unit, file_number: int, settings: PhotoSettings, outputs: Outputs) -> Totals:
    """Write the shards, and the test catalog's share, of one unit; return its counts.

    Names come from the file's number and that of the chunk's first row in it. Photos that cannot be read are
    counted and left out.
    """
    totals = Totals()
    source = records(unit)
    for first in range(unit.first, unit.first + unit.rows, PHOTOS_PER_FILE):
        name = f"part-{file_number:05}-{first:09}.parquet"
        _prepare_chunk(islice(source, PHOTOS_PER_FILE), name, settings, outputs, totals)
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
        for _, table in read_unit(unit, ["image_id"]):
            yield from (image_id for image_id in table["image_id"].to_pylist() if image_id)


def prepare(listing: Listing, settings: PhotoSettings, outputs: Outputs, progress: Progress) -> Totals:
    """Prepare all units with Ray Data on the Ray that is connected; returns the sum of their counts."""
    import ray

    def prepare_row(row: dict[str, Any]) -> dict[str, Any]:
        (unit,) = Unit.from_table(pa.Table.from_pylist([row["unit"]], UNIT))
        return {"totals": prepare_unit(unit, row["file_number"], settings, outputs).to_json()}

    units = number_files(listing.units)
    work = [{"unit": asdict(unit), "file_number": number} for unit, number in units]
    dataset = ray.data.from_items(work, override_num_blocks=min(len(work), MAX_BLOCKS)).map(prepare_row)
    totals = Totals()
    for row in dataset.iter_rows():
        done = Totals.from_json(row["totals"])
        totals.merge(done)
        unreadable = done.counts["photos/unreadable"]
        progress.update(done.counts["photos/read"] + unreadable, unreadable)
    return totals


def number_files(units: Sequence[Unit]) -> Iterator[tuple[Unit, int]]:
    """Each unit with the number of its file in the order of the input."""
    numbers: dict[str, int] = {}
    for unit in units:
        yield unit, numbers.setdefault(unit.uri, len(numbers))
