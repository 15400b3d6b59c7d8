"""What a detector said of a unit's rows, where `detect` left it. Imports no torch."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contracts.splits import hash_number
from pipelines.storage import objects as storage
from pipelines.storage.parquet_units import StorageReadError, Unit

#: Below the output folder.
LABELS_FOLDER = "labels"


def file_of(folder: str, unit: Unit) -> str:
    """URI of a unit's file: its name follows from the rows that it is of."""
    return storage.join(
        folder, f"{hash_number('unit', unit.uri, unit.first, unit.rows):064x}"[:-32] + ".parquet"
    )


def read_detected(folder: str, unit: Unit) -> pa.ChunkedArray:
    """Labels of the unit's rows in order; null where none were found. Raises StorageReadError."""
    uri = file_of(folder, unit)
    try:
        return pq.read_table(pa.BufferReader(storage.read_bytes(uri)))["labels"]
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        raise StorageReadError(f"cannot read {uri}: {type(error).__name__}: {error}") from error
