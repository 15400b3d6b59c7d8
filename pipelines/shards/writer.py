"""Writes rows to parquet files of a target size, with a few megabytes of rows in memory at a time.

Training reads whole row groups in random order. So they are large enough for an object store, and small enough that
training's shuffle window holds several. Pairs and unpaired rows never share a row group: then the file's footer shows
which rows lack an image, and training need not read the images for it.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage

#: A row group ends at either limit. Training shuffles among 512 rows by default: four row groups or more. Rows of 384
#: pixels take some 6 MB; larger images reach the limit of bytes first, which bounds the memory of readers.
GROUP_ROWS = 128
GROUP_BYTES = 16 << 20


@dataclass
class _Pending:
    """Hold rows that are not yet written and have images in the same columns."""

    rows: list[Mapping[str, Any]] = field(default_factory=list)
    size: int = 0


class ShardWriter:
    """Write rows of `schema` to FOLDER/STEM-000.parquet, STEM-001.parquet, …, each whole or not at all.

    folder: URI. shard_bytes: a file that has reached this size is closed, and the next one begun. images: the columns
    with encoded images. shared: those of them in which neighbouring rows have the same image, which is then stored
    once. The same rows in the same order give the same bytes; files of the same stem after the last one are removed.
    Use as a context manager: after an exception, the unfinished file is dropped.
    """

    def __init__(
        self,
        folder: str,
        stem: str,
        schema: pa.Schema,
        shard_bytes: int,
        images: Sequence[str],
        shared: Sequence[str] = (),
    ) -> None:
        self._folder, self._stem, self._schema, self._shard_bytes = folder, stem, schema, shard_bytes
        self._images, self._shared = tuple(images), tuple(shared)
        self._pending: dict[tuple[bool, ...], _Pending] = {}
        self._file: pq.ParquetWriter | None = None
        self._closing = ExitStack()
        self._size = 0  # bytes of images in the open file
        self.names: list[str] = []  # names of the files begun so far
        self.rows = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of one photo; those with images in the same columns stay in one row group."""
        for row in rows:
            pending = self._pending.setdefault(
                tuple(row[name] is not None for name in self._images), _Pending()
            )
            pending.size += self._new_bytes(row, pending.rows[-1] if pending.rows else None)
            pending.rows.append(row)
        for pending in self._pending.values():
            if len(pending.rows) >= GROUP_ROWS or pending.size >= GROUP_BYTES:
                self._write(pending)
        self.rows += len(rows)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._closing.__exit__(kind, error, trace)
            return
        with self._closing:  # closes the file even if the last rows cannot be written
            for _, pending in sorted(self._pending.items()):
                self._write(pending)
        self._remove_further()

    def _remove_further(self) -> None:
        """Remove further files of an earlier, interrupted attempt, which may have had more images than this one."""
        number = len(self.names)
        while storage.exists(uri := self._uri(number)):
            storage.remove(uri)
            number += 1

    def _new_bytes(self, row: Mapping[str, Any], before: Mapping[str, Any] | None) -> int:
        repeated = [
            name
            for name in self._shared
            if before is not None and row["image_id"] == before["image_id"] and row[name] == before[name]
        ]
        return sum(len(row[name] or b"") for name in self._images if name not in repeated)

    def _write(self, pending: _Pending) -> None:
        if not pending.rows:
            return
        file = self._file or self._open()
        file.write_table(pa.Table.from_pylist(pending.rows, self._schema))
        self._size += pending.size
        pending.rows, pending.size = [], 0
        if self._size >= self._shard_bytes:
            self._closing.close()
            self._file, self._size = None, 0

    def _open(self) -> pq.ParquetWriter:
        uri = self._uri(len(self.names))
        path = self._closing.enter_context(storage.whole_file(uri))
        small = [column for column in self._schema.names if column not in self._images]
        self._file = self._closing.enter_context(
            pq.ParquetWriter(
                path,
                self._schema,
                compression="none",  # encoded images do not compress
                use_dictionary=[*small, *self._shared],
                dictionary_pagesize_limit=2 * GROUP_BYTES,
            )
        )
        self.names.append(uri.rpartition("/")[2])
        return self._file

    def _uri(self, number: int) -> str:
        return storage.join(self._folder, f"{self._stem}-{number:03}.parquet")
