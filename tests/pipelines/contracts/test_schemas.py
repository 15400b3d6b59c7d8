"""The manifest is a contract: what version 1 promises, readers of version 1 can rely on."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines.contracts.schemas import (
    CHANGES,
    MANIFEST,
    MANIFEST_VERSION,
    VERSION_KEY,
    check_version,
    stamped,
)
from pipelines.correction.rows import to_table
from pipelines.published.parts import read_part

#: Never change an entry: raise MANIFEST_VERSION, and begin another table. New columns need neither.
VERSION_1 = {
    "image_id": "string",
    "source_uri": "string",
    "product_type": "string",
    "status": "string",
    "defects": "list<element: string>",
    "group": "string",
    "defect": "string",
    "output_uri": "string",
    "width": "int32",
    "height": "int32",
    "input_sha256": "string",
    "output_sha256": "string",
    "model_version": "string",
    "config_hash": "string",
    "error_code": "string",
    "error_message": "string",
    "profile_issues": "list<element: string>",
    "corrected_at": "timestamp[us, tz=UTC]",
}


@pytest.mark.parametrize("schema", [MANIFEST, CHANGES], ids=["manifest", "changes"])
def test_a_manifest_of_this_version_has_the_columns_that_readers_rely_on(
    schema: pa.Schema, tmp_path: Path
) -> None:
    assert MANIFEST_VERSION == 1
    pq.write_table(stamped(schema.empty_table()), tmp_path / "m.parquet")
    written = pq.read_schema(tmp_path / "m.parquet")
    assert {name: str(written.field(name).type) for name in VERSION_1} == VERSION_1
    assert written.metadata[VERSION_KEY.encode()] == b"1"


def test_a_manifest_without_a_version_is_of_the_first(tmp_path: Path) -> None:
    table = to_table([{"image_id": "a", "status": "failed"}], MANIFEST)
    pq.write_table(table, tmp_path / "m.parquet")
    assert read_part(str(tmp_path / "m.parquet")).num_rows == 1


@pytest.mark.parametrize("version", ["2", "10", "x"])
def test_a_manifest_of_a_later_release_is_refused(version: str, tmp_path: Path) -> None:
    table = MANIFEST.empty_table().replace_schema_metadata({VERSION_KEY: version})
    pq.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(ConfigurationError, match=rf"m.parquet is a manifest of version {version}"):
        read_part(str(tmp_path / "m.parquet"), ("status",))
    check_version(pa.schema([("status", pa.string())]), "x")
