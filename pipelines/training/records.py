"""Writes and reads a training's records as parquet."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage


def write_table(uri: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records with any keys as parquet; a key that a record lacks is null."""
    names = sorted({name for record in records for name in record}, key=lambda name: (name != "step", name))
    table = pa.table({name: [record.get(name) for record in records] for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.write_bytes(uri, sink.getvalue().to_pybytes())


def read_table(uri: str) -> list[dict[str, Any]]:
    """Return the records that `write_table` wrote; an empty list if there is no file."""
    try:
        content = storage.read_bytes(uri)
    except FileNotFoundError:
        return []
    return list(pq.read_table(pa.BufferReader(content)).to_pylist())
