"""Writes outputs: objects, and parquet files whose names come from their rows. Imports no torch."""

import hashlib
import io
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import RunError
from pipelines.correction.layout import WRITING_FOLDER, RunFolder
from pipelines.storage import objects as storage


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
