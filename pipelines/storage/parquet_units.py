"""Divide parquet files into units of work, each of which one task reads: consecutive row groups, or parts of one.

Ray Data's own parquet source packs files into bins of 128 MiB and requests a whole CPU for each of its tasks. If actors
hold every CPU of a small machine, these tasks wait for ever. Tasks that read units request what they need. Since a unit
names its rows, limits are exact and outputs are the same in every run.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import ConfigurationError, RunError
from pipelines import storage
from pipelines.storage.linked_folders import check_links
from pipelines.storage.path_columns import add_path_columns, path_columns

logger = logging.getLogger(__name__)

#: Endings of the names of parquet files, in upper or lower case.
PARQUET_SUFFIXES = (".parquet", ".pq")
#: Most bytes of one unit, unless a single row group is larger. Small enough that a few workers share a small catalog,
#: large enough that the start of a task costs little in comparison.
UNIT_BYTES = 32 << 20
#: Most rows of one unit if rows hold no image bytes but URIs: each row costs a download and a decoding. Such a file may
#: have a million rows in one row group. Every piece of a row group reads the whole group, so a group has at most
#: MOST_PIECES pieces: that costs little beside the images, as long as rows are small.
UNIT_ROWS = 256
SMALL_ROW_BYTES = 4096
MOST_PIECES = 64
#: Most rows of one unit if only small columns are read (`joined`).
SMALL_COLUMNS_ROWS = 100_000
#: Rows decoded from parquet at a time: no more uploads than these are in memory.
READ_ROWS = 16
#: Footers read at the same time: each waits for the storage, not for a CPU.
_FOOTER_THREADS = 16

UNIT = pa.schema(
    [
        ("uri", pa.string()),
        ("row_groups", pa.list_(pa.int32())),
        ("skip", pa.int64()),
        ("first", pa.int64()),
        ("rows", pa.int64()),
    ]
)


class StorageReadError(RunError):
    """Report that a parquet file can no longer be read. No row fails: the task is tried again, then the job fails."""


@dataclass(frozen=True)
class Unit:
    """Name consecutive rows of a parquet file: `rows` rows of `row_groups`, after the first `skip` rows of these.

    first: number of the first row in the file.
    """

    uri: str
    row_groups: tuple[int, ...]
    skip: int
    first: int
    rows: int

    def table(self) -> pa.Table:
        """Return the unit as one row of schema UNIT, for a Ray Data source."""
        return pa.Table.from_pylist([asdict(self)], UNIT)

    @staticmethod
    def from_table(table: pa.Table) -> "list[Unit]":
        """Return the units of a table of UNIT; the inverse of `table`, for any number of rows."""
        return [Unit(row.pop("uri"), tuple(row.pop("row_groups")), **row) for row in table.to_pylist()]


@dataclass(frozen=True)
class Listing:
    """List the units of all files, with their number of rows and their stored size in bytes.

    filled_columns: paths (`image.bytes`) of the columns that are not null in all rows, according to the footers.
    """

    units: tuple[Unit, ...]
    rows: int
    stored_bytes: int
    filled_columns: frozenset[str] = frozenset()


def list_units(
    uris: Sequence[str],
    flag: str,
    check: Callable[[pa.Schema, str], None],
    limit: int | None = None,
    in_path: Collection[str] = (),
    look: Callable[[str, pq.FileMetaData], None] | None = None,
) -> Listing:
    """Divide the parquet files at or below `uris` into units, in the order of names; only the first `limit` rows.

    uris: files, folders, or patterns (`storage.files_matching`). flag: the command-line flag that they come
    from, for messages. check: gets each file's schema and URI, and raises ConfigurationError for an unsuitable schema.
    in_path: columns that a file's path may contain (`path_columns`); `check` sees them as text columns. look: gets each
    file's URI and footer. A file that several links lead to is read once. Raises ConfigurationError if there is no
    file, or if a file is named twice or cannot be read, or a link leads nowhere.
    """
    files = _once(_files(uris, flag), flag)
    units: list[Unit] = []
    filled: set[str] = set()
    rows = stored = 0
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        for file, (schema, metadata) in zip(files, _footers(pool, files, flag, limit), strict=False):
            check(_with_path(schema, file, in_path), file)
            if look is not None:
                look(file, metadata)
            wanted = metadata.num_rows if limit is None else min(metadata.num_rows, limit - rows)
            rows += wanted
            stored += sum(
                metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups) if wanted
            )
            units.extend(_split(file, metadata, wanted))
            filled |= _filled(metadata)
            if limit is not None and rows >= limit:
                break
    return Listing(tuple(units), rows, stored, frozenset(filled))


def read_unit(
    unit: Unit, columns: Sequence[str], step: int | None = None, in_path: Collection[str] = ()
) -> Iterator[tuple[int, pa.Table]]:
    """Yield the rows of `unit` as tables of at most `step` rows, each with the number of its first row.

    step: READ_ROWS by default, UNIT_ROWS in pieces of a row group. Columns that the file lacks are left out, unless
    they are `in_path` and the path contains them (`path_columns`); `struct.field` names a part of a column. Raises
    StorageReadError, and ConfigurationError if path and file disagree.
    """
    from_path = path_columns(unit.uri, set(columns).intersection(in_path))
    try:
        for first, table in _read(unit, columns, step):
            yield first, add_path_columns(table, from_path, unit.uri, first)
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        raise StorageReadError(f"cannot read {unit.uri}: {type(error).__name__}: {error}") from error


def _read(unit: Unit, columns: Sequence[str], step: int | None) -> Iterator[tuple[int, pa.Table]]:
    filesystem, path = storage.arrow_filesystem(unit.uri)
    with pq.ParquetFile(path, filesystem=filesystem, pre_buffer=False) as file:
        present = [name for name in columns if _has(file.schema_arrow, name)]
        row, skip, left = unit.first, unit.skip, unit.rows
        # A piece of a row group has small rows (`_pieces`): larger steps skip those before it faster.
        step = step or (UNIT_ROWS if skip else READ_ROWS)
        for batch in file.iter_batches(step, row_groups=list(unit.row_groups), columns=present):
            table = pa.Table.from_batches([batch.slice(skip, left)])
            _check_text(table, unit.uri, row)
            skip = max(0, skip - batch.num_rows)
            if table.num_rows:
                yield row, table
            row, left = row + table.num_rows, left - table.num_rows
            if not left:
                return


def _has(schema: pa.Schema, name: str) -> bool:
    column, _, part = name.partition(".")
    if column not in schema.names:
        return False
    kind = schema.field(column).type
    return not part or (pa.types.is_struct(kind) and kind.get_field_index(part) >= 0)


def _check_text(table: pa.Table, uri: str, first: int) -> None:
    """Raise ConfigurationError if text is not UTF-8: Python's decoder would otherwise end the run later."""
    for name in table.column_names:
        try:
            table.column(name).validate(full=True)
        except pa.ArrowInvalid as error:
            raise ConfigurationError(
                f"{uri}: column {name!r} in rows {first} to {first + table.num_rows - 1}: {error}; write text as UTF-8"
            ) from error


def _files(uris: Sequence[str], flag: str) -> list[str]:
    """Return the parquet files that `uris` name, and log other files. Raises ConfigurationError if there are none."""
    files: list[str] = []
    others: list[str] = []
    for uri in uris:
        names = _names(uri, flag)
        # A file that is named itself is read, whatever its suffix.
        is_file = len(names) == 1 and storage.absolute(uri) == storage.absolute(names[0])
        for name in names:
            is_parquet = is_file or name.lower().endswith(PARQUET_SUFFIXES)
            (files if is_parquet else others).append(name)
    check_links(others, flag)
    rule = f"names of parquet files end in {' or '.join(PARQUET_SUFFIXES)}"
    if not files:
        content = f"there are {len(others)} others, such as {others[0]}" if others else "it is empty"
        raise ConfigurationError(f"{flag}: no .parquet file at {', '.join(uris)}; {content}: {rule}")
    if others:
        logger.info("%s: %d files are not read, such as %s: %s", flag, len(others), others[0], rule)
    return files


def _once(files: Sequence[str], flag: str) -> list[str]:
    """Return each real file of `files` once: by its own name if that is among them, else by the first link to it.

    Several folders or matches of a pattern may contain links to one file. Raises ConfigurationError if a name occurs
    twice.
    """
    twice = [file for file, count in Counter(files).items() if count > 1]
    if twice:
        raise ConfigurationError(f"{flag}: {twice[0]} is named twice; name each file, or its folder, once")
    names: dict[str, str] = {}
    for file in files:
        real = file if "://" in file else os.path.realpath(file)
        names[real] = file if file == real else names.get(real, file)
    again = set(files).difference(names.values())
    if again:
        logger.warning(
            "%s: %d files are links to other files, such as %s; each file is read once",
            flag,
            len(again),
            min(again),
        )
    return list(names.values())


def _names(uri: str, flag: str) -> list[str]:
    """Return all files that `uri` names. Raises ConfigurationError if there are none, or they cannot be listed."""
    with storage.as_configuration_error(uri, flag, "read"):
        if not storage.is_pattern(uri):
            storage.check_readable(uri, flag)
            return storage.list_files(uri, follow_links=True)
        names = storage.files_matching(uri)
    if not names:
        raise ConfigurationError(
            f"{flag}: nothing matches {uri}; name a folder, and all files in it are read"
        )
    return names


def _with_path(schema: pa.Schema, uri: str, names: Collection[str]) -> pa.Schema:
    for name in path_columns(uri, set(names) - set(schema.names)):
        schema = schema.append(pa.field(name, pa.string()))
    return schema


def _footers(
    pool: ThreadPoolExecutor, files: list[str], flag: str, limit: int | None
) -> Iterator[tuple[pa.Schema, pq.FileMetaData]]:
    """Yield the schema and metadata of each file in order; with a limit only a few more than the caller takes."""
    step = len(files) if limit is None else _FOOTER_THREADS
    for start in range(0, len(files), step):
        yield from pool.map(lambda file: _footer(file, flag), files[start : start + step])


def count_rows(files: Sequence[str]) -> int:
    """Return the number of rows of all parquet files, by their footers. Raises StorageReadError."""

    def rows(uri: str) -> int:
        filesystem, path = storage.arrow_filesystem(uri)
        try:
            return int(pq.read_metadata(path, filesystem=filesystem).num_rows)
        except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
            raise StorageReadError(f"cannot read {uri}: {type(error).__name__}: {error}") from error

    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        return sum(pool.map(rows, files))


def _footer(uri: str, flag: str) -> tuple[pa.Schema, pq.FileMetaData]:
    filesystem, path = storage.arrow_filesystem(uri)
    try:
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            return file.schema_arrow, file.metadata
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        raise ConfigurationError(
            f"{flag} {uri}: not a readable parquet file: {error}; write it again as parquet"
        ) from error


def joined(units: Sequence[Unit], rows: int = SMALL_COLUMNS_ROWS) -> Iterator[Unit]:
    """Yield the same rows in fewer units, for passes that read no image: neighbours are joined to up to `rows` rows."""
    last: Unit | None = None
    for unit in units:
        if last is None or unit.uri != last.uri or last.rows + unit.rows > rows:
            if last is not None:
                yield last
            last = unit
        else:
            groups = tuple(dict.fromkeys([*last.row_groups, *unit.row_groups]))
            last = replace(last, row_groups=groups, rows=last.rows + unit.rows)
    if last is not None:
        yield last


def _filled(metadata: pq.FileMetaData) -> set[str]:
    """Return the paths of columns that are not null in all rows; without statistics a column counts as filled."""
    filled: set[str] = set()
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        for position in range(group.num_columns):
            chunk = group.column(position)
            if chunk.path_in_schema in filled:
                continue
            statistics = chunk.statistics
            if (
                statistics is None
                or not statistics.has_null_count
                or statistics.null_count < chunk.num_values
            ):
                filled.add(chunk.path_in_schema)
    return filled


def _split(uri: str, metadata: pq.FileMetaData, wanted: int) -> Iterator[Unit]:
    """Yield the first `wanted` rows of a file as units of consecutive row groups, or of parts of one."""
    groups: list[int] = []
    first = rows = size = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        taken = min(group.num_rows, wanted - first - rows)
        if taken <= 0:
            continue
        is_small = group.total_byte_size <= SMALL_ROW_BYTES * group.num_rows
        full = size + group.total_byte_size > UNIT_BYTES or (is_small and rows + taken > UNIT_ROWS)
        if groups and full:
            yield Unit(uri, tuple(groups), 0, first, rows)
            groups, first, rows, size = [], first + rows, 0, 0
        if is_small and taken > UNIT_ROWS:
            yield from _pieces(uri, index, first, taken, group.num_rows)
            first += taken
            continue
        groups.append(index)
        rows, size = rows + taken, size + group.total_byte_size
    if groups:
        yield Unit(uri, tuple(groups), 0, first, rows)


def _pieces(uri: str, group: int, first: int, taken: int, rows: int) -> Iterator[Unit]:
    """Yield the first `taken` of a row group's `rows` rows as pieces of that row group."""
    step = max(UNIT_ROWS, -(-rows // MOST_PIECES))
    for start in range(0, taken, step):
        yield Unit(uri, (group,), start, first + start, min(step, taken - start))
