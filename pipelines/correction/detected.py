"""Reads the labels that `stream.detect` wrote for a unit's rows. Imports no torch."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.contracts.hashing import hash_number
from pipelines.storage.parquet_units import StorageReadError, Unit

#: Folder below the output folder.
LABELS_FOLDER = "labels"


def file_of(folder: str, unit: Unit) -> str:
    """Return the URI of a unit's file. Its name follows from the rows that it describes."""
    return storage.join(
        folder, f"{hash_number('unit', unit.uri, unit.first, unit.rows):064x}"[:-32] + ".parquet"
    )


def read_detected(folder: str, unit: Unit) -> pa.ChunkedArray:
    """Read the labels of the unit's rows in order; null for rows that the detector did not label. Raises
    StorageReadError.
    """
    uri = file_of(folder, unit)
    try:
        return pq.read_table(pa.BufferReader(storage.read_bytes(uri)))["labels"]
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        raise StorageReadError(f"cannot read {uri}: {type(error).__name__}: {error}") from error
