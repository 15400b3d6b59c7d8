"""Reads image bytes from cells of parquet files, for requests that mostly ask for ascending rows.

A cursor streams one column and keeps its position, so consecutive rows do not open the file again. In memory are only
a few rows and a page of the column. Going back, or to another row group, reads that row group from its start.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import RunError
from pipelines import storage
from pipelines.images.decode import ImageError
from pipelines.storage.parquet_units import READ_ROWS, StorageReadError

#: Columns that are open at once: image and mask of a table, or main and secondary photo of a product, and those of a
#: neighbouring file.
OPEN_CURSORS = 8
#: Bytes read from storage at a time. Without it a whole row group of a column is read, which may be gigabytes. A page
#: is still read whole, and writers commonly put up to 1,024 values of a row group into one, however large.
BUFFER_BYTES = 4 << 20


class ChangedSourceError(RunError):
    """A table has changed since the plan numbered its rows."""


class Cells:
    """A reader of cells. As a context manager it closes the files that it opened."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str, str], _Cursor] = OrderedDict()

    def __enter__(self) -> "Cells":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def read(self, uri: str, row: int, column: str, role: str = "", version: str | None = None) -> Any:
        """Return the value in `row` (from 0, in the file) of `column`: bytes, a dict of a struct's fields, or None.

        role: each role has its own position in the file. version: see `Locator`. Raises StorageReadError if the file
        cannot be read, which is not this row's fault; ChangedSourceError if it has another version; ImageError
        `missing` if it has no such row or column.
        """
        key = (uri, column, role)
        try:
            cursor = self._open.pop(key, None) or _Cursor(uri, column, version)
            self._open[key] = cursor
            if len(self._open) > OPEN_CURSORS:
                self._open.popitem(last=False)[1].close()
            return cursor.read(row)
        except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
            raise StorageReadError(f"cannot read {uri}: {type(error).__name__}: {error}") from error


class _Cursor:
    """A position in one column of one file."""

    def __init__(self, uri: str, column: str, version: str | None) -> None:
        filesystem, path = storage.arrow_filesystem(uri)
        self._uri, self._column = uri, column
        with ExitStack() as opened:
            self._file = opened.enter_context(
                pq.ParquetFile(path, filesystem=filesystem, buffer_size=BUFFER_BYTES, pre_buffer=False)
            )
            metadata = self._file.metadata
            sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
            self._starts = np.cumsum([0, *sizes])
            # Taken after opening, so that a change is noticed.
            if version is not None and (now := storage.version(uri)) != version:
                raise ChangedSourceError(
                    f"{uri} was rewritten while it was being prepared ({version}, now {now}): its rows are identified "
                    "by number, so leave it unchanged until a run has finished"
                )
            self.close = opened.pop_all().close
        self._group = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._first, self._values = 0, pa.array([])  # the rows read last

    def read(self, row: int) -> Any:
        if not 0 <= row < self._starts[-1]:
            raise ImageError("missing", f"{self._uri} has no row {row}")
        if self._column not in self._file.schema_arrow.names:
            raise ImageError("missing", f"{self._uri} has no column {self._column}")
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if group != self._group or row < self._first:
            self._group, self._first, self._values = group, int(self._starts[group]), pa.array([])
            self._batches = self._file.iter_batches(READ_ROWS, row_groups=[group], columns=[self._column])
        while row >= self._first + len(self._values):
            self._first += len(self._values)
            batch = next(self._batches, None)
            if batch is None:
                raise pa.ArrowInvalid(f"row group {group} ends before row {row}, which its footer promises")
            self._values = batch.column(0)
        return self._values[row - self._first].as_py()
