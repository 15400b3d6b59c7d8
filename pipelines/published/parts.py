"""Writes outputs, and reads them: objects, and parquet files whose names come from their rows. Imports no torch."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import RunError
from pipelines import storage
from pipelines.cluster.ahead import map_ahead
from pipelines.contracts.schemas import MANIFEST, check_version
from pipelines.published.layout import WRITING_FOLDER, RunFolder
from pipelines.storage.parquet_units import StorageReadError

#: Parts that are read at the same time: each waits for the storage.
_THREADS = 8


class StorageWriteError(RunError):
    """The output storage refused an object. No row fails for this: the task is tried again, then the job fails."""


def part_name(rows: Iterable[str]) -> str:
    """Return a name for the parquet file with these rows, given by unique texts: the same rows give the same name."""
    digest = hashlib.sha256()
    for row in rows:
        data = row.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return f"part-{digest.hexdigest()[:32]}.parquet"


def parquet_bytes(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """Return a table as the content of a parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size, compression="zstd")
    return buffer.getvalue()


def write_object(uri: str, data: bytes, output: str | None = None) -> None:
    """Write an object of a run. Raises StorageWriteError, after which the task is tried again.

    output: the run's output folder, for objects that are published as they are. They are then written below
    OUTPUT/.run first, so that a process that is killed meanwhile leaves nothing beside them.
    """
    try:
        storage.write_bytes(uri, data, None if output is None else RunFolder(output).at(WRITING_FOLDER))
    except storage.STORAGE_ERRORS as error:
        raise StorageWriteError(f"--output: cannot write {uri}: {storage.explain(error, uri)}") from error


def read_parts(parts: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield `read_part` of each part; a few are read ahead."""
    for _, table in map_ahead(lambda uri: read_part(uri, columns), parts, _THREADS):
        yield table


def read_manifest(*parts: str) -> pa.Table:
    """Read the rows of MANIFEST of these parts; columns that an earlier release did not write are null. Raises as
    `read_part`.
    """
    rows = pa.concat_tables([MANIFEST.empty_table(), *read_parts(parts)], promote_options="default")
    return rows.select(MANIFEST.names)


def read_part(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read `columns` (None: all) of one part of a manifest or journal. Raises StorageReadError, and ConfigurationError
    for one of a later release.
    """
    try:
        filesystem, path = storage.arrow_filesystem(uri)
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            check_version(file.schema_arrow, uri)
            return file.read(None if columns is None else list(columns))
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        raise StorageReadError(f"cannot read {uri}: {type(error).__name__}: {error}") from error
