"""Finished work of earlier runs and killed attempts, by layers: the latest layer of an id counts."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.correction.inspect.known import Known, build_known
from pipelines.published.layout import Layers
from pipelines.published.row_keys import KEY, key_of, to_keys
from pipelines.storage.parquet_units import StorageReadError

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("row_key", KEY),
        ("image_key", KEY),
        ("status", pa.string()),
        ("error_code", pa.string()),
    ]
)


def part(path: Path, *rows: tuple[str, str, str]) -> str:
    """Write a part of a manifest or journal from rows (id, image, status); keys are of id and image."""
    table: list[dict[str, Any]] = [
        {
            "image_id": name,
            "row_key": key_of("row", name, image),
            "image_key": key_of("image", name, image),
            "status": status,
        }
        for name, image, status in rows
    ]
    pq.write_table(pa.Table.from_pylist(table, SCHEMA), path)
    return str(path)


def knows(known: Known, name: str, image: str) -> tuple[bool, bool]:
    """Return whether the row may stay, and whether its image needs no new correction."""
    row, picture = (to_keys([key_of(kind, name, image)]) for kind in ("row", "image"))
    return bool(known.rows.has(row)[0]), bool(known.images.has(picture)[0])


def test_a_manifests_rows_are_known_and_counted(tmp_path: Path) -> None:
    parts = [
        part(tmp_path / "a.parquet", ("a", "1", "corrected"), ("b", "1", "failed")),
        part(tmp_path / "b.parquet", ("c", "1", "passthrough")),
    ]
    known, counts = build_known(Layers([parts]), retry_failed=())
    assert [knows(known, name, "1") for name in "abc"] == [(True, True)] * 3
    assert knows(known, "a", "2") == (False, False)
    assert (counts.rows, counts.statuses, counts.total) == (
        ((2, 1),),
        {"corrected": 1, "failed": 1, "passthrough": 1},
        3,
    )


def test_failed_rows_are_not_known_if_they_are_tried_again(tmp_path: Path) -> None:
    parts = [part(tmp_path / "a.parquet", ("a", "1", "corrected"), ("b", "1", "failed"))]
    known, _ = build_known(Layers([parts]), retry_failed=("all",))
    assert [knows(known, name, "1") for name in "ab"] == [(True, True), (False, False)]


def test_a_later_attempts_row_stands_for_the_earlier_one(tmp_path: Path) -> None:
    manifest = [part(tmp_path / "m.parquet", ("a", "1", "corrected"), ("b", "1", "corrected"))]
    journal = [part(tmp_path / "j.parquet", ("a", "2", "corrected"))]
    known, counts = build_known(Layers([manifest, journal], ["000-x"]), retry_failed=())
    assert knows(known, "a", "1") == (False, False)
    assert knows(known, "a", "2") == (True, True)
    assert knows(known, "b", "1") == (True, True)
    assert counts.rows == ((2,), (1,))


def test_a_part_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(StorageReadError, match=r"broken\.parquet"):
        build_known(Layers([[str(tmp_path / "broken.parquet")]]), retry_failed=())
