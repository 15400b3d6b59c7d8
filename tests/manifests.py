"""Makes manifest rows with readable keys, and records of those that stay."""

from typing import Any

import pyarrow as pa

from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.publish.staying import Staying
from pipelines.correction.rows import REFRESHED, to_table
from pipelines.published.row_keys import KeySet, column_keys, to_keys


def key(name: str) -> bytes:
    return name.encode().ljust(16, b"_")


def manifest(*names: str, **columns: Any) -> pa.Table:
    rows = [
        {
            "image_id": name,
            "row_key": key(name),
            "image_key": key(f"i{name}"),
            "status": "corrected",
            **columns,
        }
        for name in names
    ]
    return to_table(rows, MANIFEST)


def staying(rows: list[str], *refreshed: str) -> Staying:
    refreshed_rows = [
        {"image_key": key(f"i{name}"), "row_key": key(f"new {name}"), "input_version": "v2"}
        for name in refreshed
    ]
    table = to_table(sorted(refreshed_rows, key=lambda one: one["image_key"]), REFRESHED)
    return Staying(
        KeySet(to_keys([key(name) for name in rows])),
        KeySet(column_keys(pa.chunked_array(table["image_key"].chunks, table["image_key"].type))),
        table,
    )
