"""Readers of parquet and CSV files that leave out the images: texts, and which cells hold bytes."""

import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.cluster.ahead import map_ahead
from pipelines.preparation.entries import Locator
from pipelines.preparation.unit.resolve import beside
from pipelines.storage.file_names import is_image, stem
from pipelines.storage.parquet_units import PARQUET_SUFFIXES
from pipelines.storage.path_columns import disagreement, path_columns
from pipelines.storage.walk import walk

logger = logging.getLogger(__name__)

SUFFIXES = (*PARQUET_SUFFIXES, ".csv")
_CSV_FAULTS: tuple[type[Exception], ...] = (csv.Error, UnicodeDecodeError, *storage.STORAGE_ERRORS)
#: Rows in memory at a time, without their images.
_ROWS = 4096


@dataclass(frozen=True)
class Columns:
    """The columns that a reader knows, and their names in the files.

    text: columns of text or whole numbers. images: columns of encoded bytes, of struct{bytes, path}, or of URIs.
    names: names in the files that differ from the columns' own. fractions: those of `text` that may have a fraction.
    """

    text: tuple[str, ...]
    images: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    fractions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigurationError for an unknown column."""
        known = (*self.text, *self.images)
        for column in self.names:
            if column not in known:
                raise ConfigurationError(f"columns: unknown column {column!r}; known: {', '.join(known)}")

    def called(self, column: str) -> str:
        """Return the column's name in the file."""
        return self.names.get(column, column)


@dataclass(frozen=True)
class Row:
    """A row of a table file. values: its texts, without blank ones. cells: its columns that may hold bytes.

    full: those of `cells` that are known not to be null.
    """

    table: "TableFile"
    number: int  # from 0
    values: Mapping[str, str]
    cells: tuple[str, ...] = ()
    full: frozenset[str] = frozenset()

    @property
    def location(self) -> str:
        """The row's file and number, for messages."""
        return f"{self.table.uri}, row {self.number} (from 0)"

    @property
    def default_id(self) -> str:
        """An id from the file's path below the source's root and the row number; stable as long as the file is."""
        return f"{self.table.relative}#{self.number}"

    def image(self, column: str, uri_column: str) -> Locator | None:
        """Return where a pair of columns has its image: its bytes if they surely exist, else its URI, else the cell."""
        text = self.values.get(column) or self.values.get(uri_column)
        if column in self.cells and (text is None or column in self.full):
            called = self.table.columns.called(column)
            return Locator(self.table.uri, self.number, called, version=self.table.version)
        return None if text is None else Locator(beside(self.table.uri, text))

    def path(self, column: str) -> str | None:
        """Return the path in a struct{bytes, path}, or None."""
        return self.values.get(f"{column}.path")


@dataclass(frozen=True)
class TableFile:
    """One file of a table source. Opened by `open_tables`."""

    uri: str  # absolute
    relative: str  # path below the source's root without extension; the file's own name if it is the root
    columns: Columns
    flag: str

    @property
    def is_parquet(self) -> bool:
        return self.uri.lower().endswith(PARQUET_SUFFIXES)

    @cached_property
    def _footer(self) -> tuple[pa.Schema, int, str | None]:
        filesystem, path = storage.arrow_filesystem(self.uri)
        try:
            version = storage.version(self.uri)  # taken before reading, so that a later change is noticed
            with pq.ParquetFile(path, filesystem=filesystem) as file:
                return file.schema_arrow, file.metadata.num_rows, version
        except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
            raise ConfigurationError(
                f"{self.flag} {self.uri}: not a readable parquet file: {error}"
            ) from error

    @cached_property
    def _header(self) -> list[str]:
        return next(self._csv_records())[1]

    @property
    def row_count(self) -> int | None:
        """The number of rows, or None if counting needs a pass over the file."""
        return self._footer[1] if self.is_parquet else None

    @property
    def version(self) -> str | None:
        """The version of a file with cells (see `storage.version`), whose rows are known by number."""
        return self._footer[2] if self.is_parquet else None

    @property
    def names(self) -> list[str]:
        """The names of the file's columns and of the columns in its path."""
        return [*self._own, *(name for name in self._in_path if name not in self._own)]

    @property
    def _own(self) -> list[str]:
        return list(self._footer[0].names) if self.is_parquet else self._header

    @cached_property
    def _in_path(self) -> dict[str, str | None]:
        """The values of text columns that the file's path gives, by the names in the files."""
        return path_columns(self.uri, {self.columns.called(column) for column in self.columns.text})

    def present(self, columns: Sequence[str]) -> list[str]:
        """Return those of `columns` that the file or its path has."""
        return [column for column in columns if self.columns.called(column) in self.names]

    def _in_file(self, columns: Sequence[str]) -> list[str]:
        return [column for column in columns if self.columns.called(column) in self._own]

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns of encoded bytes."""
        if not self.is_parquet:
            return ()
        return tuple(c for c in self._in_file(self.columns.images) if not _is_text(self._kind(c)))

    @property
    def structs(self) -> tuple[str, ...]:
        """Those of `cells` that are structs with a path."""
        kinds = {column: self._kind(column) for column in self.cells}
        return tuple(
            column
            for column, kind in kinds.items()
            if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
        )

    def _kind(self, column: str) -> pa.DataType:
        kind = self._footer[0].field(self.columns.called(column)).type
        return kind.value_type if pa.types.is_dictionary(kind) else kind

    def complaints(self) -> list[str]:
        """Return what is wrong with the columns."""
        complaints = [
            f"no column {called} (for {column})"
            for column, called in self.columns.names.items()
            if called not in self.names
        ]
        if not self.is_parquet:
            return complaints
        for column in self._in_file((*self.columns.text, *self.columns.images)):
            kind = self._kind(column)
            is_fit = (
                _is_text(kind)
                or pa.types.is_null(kind)
                or (_is_bytes(kind) if column in self.columns.images else pa.types.is_integer(kind))
                or (pa.types.is_floating(kind) and column in self.columns.fractions)
            )
            if not is_fit:
                complaints.append(f"column {self.columns.called(column)} of type {kind}")
        return complaints

    def rows(self) -> Iterator[Row]:
        """Yield all rows.

        Raises ConfigurationError if the file cannot be read to its end, if text is not UTF-8, or if a row contradicts
        the file's path.
        """
        rows = self._parquet_rows() if self.is_parquet else self._csv_rows()
        return map(self._with_path, rows) if self._in_path else rows

    def _with_path(self, row: Row) -> Row:
        values = dict(row.values)
        for column in self.columns.text:
            called = self.columns.called(column)
            if called not in self._in_path:
                continue
            value = self._in_path[called]
            if called in self._own and values.get(column) != value:
                raise disagreement(f"{self.flag} {row.location}", called, values.get(column), value)
            if value is not None:
                values[column] = value
        return replace(row, values=values)

    def _parquet_rows(self) -> Iterator[Row]:
        cells = self.cells
        structs = {f"{column}.path": self.columns.called(column) for column in self.structs}
        texts = self._in_file(self.columns.text)
        texts += [column for column in self._in_file(self.columns.images) if column not in cells]
        called = {column: self.columns.called(column) for column in texts}
        leaves = [*called.values(), *(f"{name}.path" for name in structs.values())]
        filesystem, path = storage.arrow_filesystem(self.uri)
        number = 0
        try:
            with pq.ParquetFile(path, filesystem=filesystem, pre_buffer=False) as file:
                for group in range(file.metadata.num_row_groups):
                    full = self._full_cells(file.metadata.row_group(group))
                    for batch in file.iter_batches(_ROWS, row_groups=[group], columns=leaves):
                        table = pa.Table.from_batches([batch])
                        table.validate(full=True)
                        for record in table.to_pylist():
                            yield Row(self, number, _values(record, called, structs), cells, full)
                            number += 1
        except (pa.ArrowException, UnicodeDecodeError, *storage.STORAGE_ERRORS) as error:
            raise ConfigurationError(
                f"{self.flag} {self.uri}: cannot be read from row {number} on: {error}"
            ) from error

    def _full_cells(self, group: Any) -> frozenset[str]:
        """Return the cell columns that have no null in a row group, according to its statistics."""
        full = set()
        wanted = {self.columns.called(column): column for column in self.cells}
        for index in range(group.num_columns):
            leaf = group.column(index)
            name, _, below = leaf.path_in_schema.partition(".")
            known = leaf.statistics is not None and leaf.statistics.has_null_count
            if name in wanted and below in ("", "bytes") and known and not leaf.statistics.null_count:
                full.add(wanted[name])
        return frozenset(full)

    def _csv_rows(self) -> Iterator[Row]:
        wanted = self._in_file((*self.columns.text, *self.columns.images))
        positions = {column: self._header.index(self.columns.called(column)) for column in wanted}
        records = self._csv_records()
        next(records)
        for number, (line, fields) in enumerate(records):
            if len(fields) != len(self._header):
                raise ConfigurationError(
                    f"{self.flag} {self.uri}, line {line}: {len(fields)} fields, the header has {len(self._header)}; "
                    "put fields that hold a comma in quotes"
                )
            values = {column: _text(fields[position]) for column, position in positions.items()}
            yield Row(self, number, {column: value for column, value in values.items() if value})

    def _csv_records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield line number and fields of the header and of each row; empty lines are skipped."""
        fs, path = storage.resolve(self.uri)
        line = 1
        try:
            with fs.open(path, "rb") as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
                reader = csv.reader(text, strict=True)
                has_header = False
                for fields in reader:
                    line = reader.line_num
                    if fields:
                        has_header = True
                        yield line, fields
        except _CSV_FAULTS as error:
            raise ConfigurationError(f"{self.flag} {self.uri}, after line {line}: {error}") from error
        if not has_header:
            raise ConfigurationError(
                f"{self.flag} {self.uri} is empty; a CSV table begins with a line of column names"
            )


def open_tables(uri: str, columns: Columns, flag: str) -> list[TableFile]:
    """Return the tables at or below `uri`, ordered by name, after a check of their columns.

    Raises ConfigurationError if there is none, or with the complaints about the first unfit one.
    """
    storage.check_readable(uri, flag)
    tables = [
        TableFile(file, relative, columns, flag)
        for file, relative in table_files(storage.absolute(uri), flag)
    ]
    if not tables:
        raise ConfigurationError(
            f"{flag}: no {', '.join(PARQUET_SUFFIXES)} or .csv file at {uri}; tables are recognised by their names"
        )
    for table, complaints in map_ahead(TableFile.complaints, tables):  # reading footers waits for storage
        if complaints:
            raise unfit(table, complaints)
    return tables


def unfit(table: TableFile, complaints: Sequence[str]) -> ConfigurationError:
    """Return the error for a table's columns, with those that it has and those that are known."""
    known = "; ".join(
        (
            f"text: {', '.join(table.columns.text)}",
            f"images (bytes, struct with bytes, or a URI): {', '.join(table.columns.images)}",
        )
    )
    return ConfigurationError(
        f"{table.flag} {table.uri}: {', '.join(complaints)} (its columns are {', '.join(table.names)}); known columns, "
        f"which `columns:` in a file of --sources can rename, are {known}"
    )


def table_files(uri: str, flag: str) -> Iterator[tuple[str, str]]:
    """Yield URI and name (see `TableFile.relative`) of each table at or below the absolute `uri`."""
    fs, path = storage.resolve(uri)
    if not fs.isdir(path):
        if is_table(uri):
            yield uri, stem(uri.rpartition("/")[2])
        return
    for folder in walk(uri, flag, logger.warning):
        for name in folder.files:
            if is_table(name):
                yield storage.join(uri, folder.key(name)), stem(folder.key(name))


def holds_tables(uri: str, flag: str) -> bool:
    """Return whether `uri` is a table, or a folder whose tables lie above or beside the first images.

    False also if there is neither.
    """
    storage.check_readable(uri, flag)
    fs, path = storage.resolve(uri)
    if not fs.isdir(path):
        return True
    for folder in walk(uri, flag):
        if any(is_table(name) for name in folder.files):
            return True
        if any(is_image(name) for name in folder.files):
            return False
    return False


def is_table(name: str) -> bool:
    """Return whether a file's name is that of a table."""
    return name.lower().endswith(SUFFIXES)


def _values(
    record: Mapping[str, Any], called: Mapping[str, str], structs: Mapping[str, str]
) -> dict[str, str]:
    """Return a parquet record's texts by column, without blank ones. called, structs: column to name in the file."""
    values = {column: _text(record[name]) for column, name in called.items()}
    for column, name in structs.items():
        values[column] = _text(record[name]["path"] if record[name] else None)
    return {column: value for column, value in values.items() if value}


def _text(value: Any) -> str | None:
    """Return a value as text; None for null or blank."""
    text = "" if value is None else str(value)
    return text if text.strip() else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        position = kind.get_field_index("bytes")
        return position >= 0 and _is_bytes(kind.field(position).type)
    return bool(
        pa.types.is_null(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )
