"""Remembers which ids were erased on request: OUTPUT/erased.parquet, which no run removes, not even with --overwrite.

It has keys of ids, not the ids. A row of a catalog with such an id is not read: it fails as `erased`, so that every
row of the catalog is still in the manifest.
"""

import io
from collections.abc import Iterable
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.contracts.schemas import MANIFEST
from pipelines.published.parts import parquet_bytes, write_object
from pipelines.published.row_keys import KEY, KeySet, column_keys, id_keys, key_of, keys_column

#: Error code of the rows of such ids, and their message.
ERASED = "erased"
MESSAGE = "erased on request: no run reads or corrects it; take the row out of the catalog"
FILE = "erased.parquet"
SCHEMA = pa.schema(
    [pa.field("id_key", KEY, nullable=False), pa.field("erased_at", pa.timestamp("us", tz="UTC"))]
)
#: Columns of a manifest row that say something of an image.
_OF_THE_IMAGE = (
    *("output_uri", "output_sha256", "width", "height", "input_sha256", "profile_issues"),
    *("input_version", "row_key", "image_key"),
)


def read_erased(output: str) -> KeySet:
    """Return the `id_keys` of all erased ids. Raises one of STORAGE_ERRORS."""
    return KeySet(column_keys(_read(output).column("id_key")))


def add_erased(output: str, image_ids: Iterable[str], at: datetime) -> None:
    """Remember ids. Call it while holding the output's lock. Raises StorageWriteError, and one of STORAGE_ERRORS."""
    before = _read(output)
    keys = id_keys(image_ids)
    new = np.unique(keys[~KeySet(column_keys(before.column("id_key"))).has(keys)])
    added = pa.table({"id_key": keys_column(new), "erased_at": pa.array([at] * len(new))}).cast(SCHEMA)
    data = parquet_bytes(pa.concat_tables([before, added]))
    write_object(storage.join(output, FILE), data, output)


def _read(output: str) -> pa.Table:
    uri = storage.join(output, FILE)
    if not storage.exists(uri):
        return SCHEMA.empty_table()
    return pq.read_table(io.BytesIO(storage.read_bytes(uri))).cast(SCHEMA)


def erased_key(row_key: bytes | None) -> bytes | None:
    """Return the key of an erased row: not that of the row as it would be otherwise, should the id be readmitted."""
    return None if row_key is None else key_of(ERASED, row_key.hex())


def erase_rows(rows: pa.Table) -> pa.Table:
    """Return rows of MANIFEST as the next run will write them for erased ids, except for `corrected_at`."""
    values = {
        **dict.fromkeys(_OF_THE_IMAGE),
        "status": "failed",
        "error_code": ERASED,
        "error_message": MESSAGE,
    }
    for name, value in values.items():
        field = MANIFEST.field(name)
        column = pa.array([value] * rows.num_rows, field.type)
        rows = rows.set_column(rows.schema.get_field_index(name), field, column)
    return rows
