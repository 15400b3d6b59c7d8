"""The plan of a preparation: the readers' entries, each once, divided into units of work.

A plan is a table of entries (`entries.ENTRIES`) in parquet, and a small document that is written last and commits it.
A restarted run works from the committed plan, even if the sources have changed since. The plan alone decides what a
unit covers, so its shards have the same names and bytes for any number of workers and attempts.
"""

import heapq
import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import ConfigurationError, RunError
from pipelines import storage
from pipelines.contracts.hashing import hash_number
from pipelines.contracts.splits import TEST
from pipelines.preparation.entries import ENTRIES, Entry, Locator
from pipelines.preparation.plan.listing import Listing, distinct_entries, key_of
from pipelines.preparation.unit.rows import RowSettings, split_of_entry

logger = logging.getLogger(__name__)

#: Entries per file of the plan and per row group. A unit reads the row groups that it overlaps.
FILE_ENTRIES, GROUP_ENTRIES = 16_384, 256
#: Minimum number of units, so that all cores stay busy to the end. But no unit is smaller than LEAST_ENTRIES, where
#: starting it would cost more than its work.
LEAST_UNITS, LEAST_ENTRIES = 64, 16
#: Bytes per pixel of JPEGs at `rows.JPEG_QUALITY`, measured on sellers' photos at 384 pixels.
BYTES_PER_PIXEL = 0.3

DOCUMENT = "plan.json"


@dataclass(frozen=True)
class Plan:
    """A committed plan. Its size does not grow with the data.

    identity: the flags that decide the output, with their values. unit_entries: entries per unit (the last has fewer).
    last_hash: hex; the test catalog takes held-back images up to this hash, or all if None.
    """

    identity: Mapping[str, Any]
    unit_entries: int
    listed: int = 0  # entries that the readers listed
    planned: int = 0  # entries that units prepare
    duplicates: int = 0
    nameless: int = 0  # without image_id
    duplicate_examples: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # discrepancies that the readers noted
    last_hash: str | None = None

    @property
    def units(self) -> int:
        """The number of units."""
        return -(-self.planned // self.unit_entries)

    def span(self, unit: int) -> range:
        """Return the numbers of a unit's entries."""
        return range(unit * self.unit_entries, min(self.planned, (unit + 1) * self.unit_entries))


def unit_entries(entries: int, settings: RowSettings, shard_bytes: int) -> int:
    """Return entries per unit: enough to fill about one shard, or fewer so that all cores share the work."""
    pixels = 0.75 * settings.max_side**2  # because photos are not square
    images = 1 + max(1, len(settings.made))  # the sources, and one target that they share
    fitting = int(shard_bytes / (images * pixels * BYTES_PER_PIXEL))
    return max(LEAST_ENTRIES, min(fitting, -(-entries // LEAST_UNITS)))


def make_plan(
    folder: str,
    entries: Callable[[], Iterable[Entry]],
    check: Callable[[Entry], None],
    *,
    identity: Mapping[str, Any],
    size_of_units: Callable[[int], int],
    notes: Callable[[], Iterable[str]],
    test_limit: int | None = None,
) -> Plan:
    """List `entries` once, as a stream, write the plan to `folder` (a URI) and commit it.

    entries, check: see `listing.distinct_entries`, whose ConfigurationErrors are raised. size_of_units: returns entries
    per unit for a number of entries. notes: called after listing. test_limit: maximum of images in the test catalog.
    """
    storage.remove(folder)  # the draft of a run that ended before committing it
    counted = Listing()
    hashes: list[int] = []  # a heap of the `test_limit` smallest, negated
    distinct = distinct_entries(entries, check, counted)
    number = 0
    while chunk := list(islice(distinct, FILE_ENTRIES)):
        _write_entries(entries_uri(folder, number), chunk)
        if test_limit is not None:
            _keep_smallest(hashes, chunk, test_limit)
        number += 1
    plan = Plan(
        dict(identity),
        size_of_units(counted.planned),
        counted.listed,
        counted.planned,
        counted.duplicates,
        counted.nameless,
        tuple(counted.examples),
        tuple(notes()),
        f"{-hashes[0]:x}" if test_limit is not None and len(hashes) == test_limit else None,
    )
    storage.write_bytes(storage.join(folder, DOCUMENT), json.dumps(asdict(plan), indent=2).encode())
    return plan


def load_plan(folder: str) -> Plan | None:
    """Return the plan at `folder`, or None if none was committed. Raises ConfigurationError if it is damaged."""
    uri = storage.join(folder, DOCUMENT)
    if not storage.exists(uri):
        return None
    try:
        document = json.loads(storage.read_bytes(uri))
        for name in ("duplicate_examples", "notes"):
            document[name] = tuple(document[name])
        return Plan(**document)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"--output: {uri} is damaged; start again with --overwrite") from error


def read_entries(folder: str, span: range) -> Iterator[Entry]:
    """Yield the entries whose numbers are in `span`. Raises RunError if the plan lacks some."""
    count = 0
    for file in range(span.start // FILE_ENTRIES, -(-span.stop // FILE_ENTRIES)):
        uri = entries_uri(folder, file)
        for entry in _read_file(
            uri, range(span.start - file * FILE_ENTRIES, span.stop - file * FILE_ENTRIES)
        ):
            count += 1
            yield entry
    if count != len(span):
        raise RunError(f"the plan in {folder} is damaged: it lacks entries; start again with --overwrite")


def entries_uri(folder: str, file: int) -> str:
    """Return the URI of the plan's file with this number; each file but the last has FILE_ENTRIES entries."""
    return storage.join(folder, f"entries-{file:05}.parquet")


def in_test_catalog(entry: Entry, last_hash: str | None) -> bool:
    """Return whether the test catalog takes this entry: it is held back and within the limit."""
    if split_of_entry(entry) != TEST:
        return False
    return last_hash is None or _catalog_order(entry) <= int(last_hash, 16)


def _keep_smallest(heap: list[int], chunk: Iterable[Entry], size: int) -> None:
    for entry in chunk:
        if split_of_entry(entry) == TEST:
            heapq.heappush(heap, -_catalog_order(entry))
            if len(heap) > size:
                heapq.heappop(heap)


def _catalog_order(entry: Entry) -> int:
    return hash_number("test-catalog", key_of(entry))


def _write_entries(uri: str, entries: Iterable[Entry]) -> None:
    buffer = io.BytesIO()
    table = pa.Table.from_pylist([_to_row(entry) for entry in entries], ENTRIES)
    pq.write_table(table, buffer, compression="zstd", row_group_size=GROUP_ENTRIES)
    storage.write_bytes(uri, buffer.getvalue())


def _read_file(uri: str, wanted: range) -> Iterator[Entry]:
    """Yield entries of one file of the plan; `wanted` may reach beyond it on either side."""
    with pq.ParquetFile(pa.BufferReader(storage.read_bytes(uri))) as file:
        for group in range(file.num_row_groups):
            first = group * GROUP_ENTRIES
            overlap = range(max(first, wanted.start), min(first + GROUP_ENTRIES, wanted.stop))
            if overlap:
                table = file.read_row_group(group).slice(overlap.start - first, len(overlap))
                yield from map(_from_row, table.to_pylist())


def _to_row(entry: Entry) -> dict[str, Any]:
    row = {name: getattr(entry, name) for name in ENTRIES.names}
    return {name: value._asdict() if isinstance(value, Locator) else value for name, value in row.items()}


def _from_row(row: dict[str, Any]) -> Entry:
    values: dict[str, Any] = {
        name: Locator(**value) if isinstance(value, dict) else value for name, value in row.items()
    }
    return Entry(**values)
