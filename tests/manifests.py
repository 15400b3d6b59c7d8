"""Makes manifest rows with readable keys, and records of those that stay."""

from typing import Any

import pyarrow as pa

from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.publish.staying import Refreshed, Staying
from pipelines.correction.rows import REFRESHED, to_table
from pipelines.published.key_shards import KeyShards
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
        Refreshed(
            KeySet(column_keys(pa.chunked_array(table["image_key"].chunks, table["image_key"].type))), table
        ),
    )


def keys_of(keys: KeySet | KeyShards) -> list[bytes]:
    """Return all keys of a set that this process has built."""
    shards = keys.shards if isinstance(keys, KeyShards) else [keys]
    return [key for shard in shards for key in shard.keys.tolist()]
