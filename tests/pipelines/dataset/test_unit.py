import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines.dataset.job import (
    LISTED_UNREADABLE,
    Outputs,
    Totals,
    last_catalog_hash,
    list_photos,
    number_files,
    prepare_unit,
    records,
)
from pipelines.dataset.photos import PhotoSettings
from pipelines.schemas import CATALOG, REFERENCE, SHARD
from pipelines.splits import split_of
from tests.photo_tables import HEIGHT, WIDTH, encode, record, scene, write_table

SETTINGS = PhotoSettings(
    groups={"non_white_background": "background", "watermark": "background", "wrong_angle": "angle"},
    max_side=48,
)


def prepare(photos: list[Path], output: Path, size: int | None = None) -> Totals:
    """What the job does, without Ray: all units one after the other."""
    units = list_photos([str(path) for path in photos]).units
    last = last_catalog_hash(units, size) if size else None
    outputs = Outputs(str(output / "shards"), str(output / "held-back"), last)
    totals = Totals()
    for unit, file_number in number_files(units):
        totals.merge(Totals.from_json(prepare_unit(unit, file_number, SETTINGS, outputs).to_json()))
    return totals


def rows(folder: Path) -> list[dict[str, Any]]:
    return pyarrow.dataset.dataset(folder).to_table().to_pylist()


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_shards_have_the_agreed_schema_and_all_rows_of_a_photo_on_one_side(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.parquet", [record(f"p{i}") for i in range(12)])
    totals = prepare([table], tmp_path / "out")
    assert pyarrow.dataset.dataset(tmp_path / "out" / "shards").schema.equals(SHARD)
    made = rows(tmp_path / "out" / "shards")
    assert len(made) == 36
    assert len({(row["image_id"], row["defect"]) for row in made}) == 36
    assert all(row["split"] == split_of(row["image_id"]) for row in made)
    assert totals.counts["photos/read"] == 12
    assert sum(n for key, n in totals.counts.items() if key.startswith("rows/")) == 36


def test_making_a_unit_again_writes_the_same_bytes_to_the_same_names(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.parquet", [record(f"p{i}") for i in range(6)], row_group_size=3)
    first = prepare([table], tmp_path / "out")
    before = digests(tmp_path / "out")
    assert prepare([table], tmp_path / "out") == first
    assert digests(tmp_path / "out") == before


def test_shards_are_named_after_the_place_of_their_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.dataset.job.PHOTOS_PER_FILE", 2)
    monkeypatch.setattr("pipelines.parquet_units.UNIT_BYTES", 1)  # every row group is a unit
    one = write_table(tmp_path / "a.parquet", [record(f"a{i}") for i in range(6)], row_group_size=3)
    other = write_table(tmp_path / "b.parquet", [record("b0")])
    prepare([one, other], tmp_path / "out")
    made = {
        path.name: sorted(set(pq.read_table(path)["image_id"].to_pylist()))
        for path in (tmp_path / "out" / "shards").iterdir()
    }
    assert made == {
        "part-00000-000000000.parquet": ["a0", "a1"],
        "part-00000-000000002.parquet": ["a2"],
        "part-00000-000000003.parquet": ["a3", "a4"],
        "part-00000-000000005.parquet": ["a5"],
        "part-00001-000000000.parquet": ["b0"],
    }


def test_content_does_not_depend_on_the_order_or_the_files_of_photos(tmp_path: Path) -> None:
    photos = [record(f"sku-{i}", mask=None if i == 3 else record()["mask"]) for i in range(9)]
    whole = write_table(tmp_path / "whole.parquet", photos)
    parts = [
        write_table(tmp_path / "x.parquet", photos[:3:-1], row_group_size=2),
        write_table(tmp_path / "y.parquet", photos[3::-1], row_group_size=1),
    ]
    one, other = prepare([whole], tmp_path / "one", 2), prepare(parts, tmp_path / "other", 2)
    assert one == other

    def key(row: dict[str, Any]) -> tuple[str, str]:
        return row["image_id"], row.get("defect") or ""

    for folder in ("shards", "held-back/catalog", "held-back/reference"):
        made = [sorted(rows(tmp_path / name / folder), key=key) for name in ("one", "other")]
        assert made[0] == made[1]
        assert made[0]


@pytest.mark.parametrize(
    "change", [{"image": encode(255 - scene())}, {"product_type": "dress"}, {"image_id": "q"}]
)
def test_the_fingerprint_changes_with_the_content(tmp_path: Path, change: dict[str, Any]) -> None:
    one = prepare([write_table(tmp_path / "a.parquet", [record()])], tmp_path / "one")
    other = prepare([write_table(tmp_path / "b.parquet", [record(**change)])], tmp_path / "other")
    assert one.fingerprint != other.fingerprint


def test_photos_that_cannot_be_read_are_counted_and_the_rest_is_made(tmp_path: Path) -> None:
    bad = [record(f"bad{i:03}", image=b"junk") for i in range(LISTED_UNREADABLE + 5)]
    photos = [record("good"), *bad, record("empty", image=None), record(None)]
    totals = prepare([write_table(tmp_path / "a.parquet", photos, row_group_size=7)], tmp_path / "out")
    assert totals.counts["photos/read"] == 1
    assert totals.counts["photos/unreadable"] == len(photos) - 1
    assert totals.counts["unreadable/unknown_format"] == len(bad)
    assert totals.counts["unreadable/empty"] == 1
    assert totals.counts["unreadable/no_image_id"] == 1
    assert len(totals.unreadable) == LISTED_UNREADABLE
    assert {row["image_id"] for row in rows(tmp_path / "out" / "shards")} == {"good"}


def test_the_held_back_catalog_has_test_photos_only_and_references_are_trusted(tmp_path: Path) -> None:
    doubtful = encode(np.full((HEIGHT, WIDTH), 128, np.uint8))
    photos = [record(f"p{i}", mask=doubtful if i % 2 else record()["mask"]) for i in range(40)]
    totals = prepare([write_table(tmp_path / "a.parquet", photos)], tmp_path / "out")
    held_back = tmp_path / "out" / "held-back"
    catalog, reference = rows(held_back / "catalog"), rows(held_back / "reference")
    test_ids = {photo["image_id"] for photo in photos if split_of(photo["image_id"]) == "test"}
    good = {photo["image_id"] for photo in photos[::2]}
    assert {row["image_id"] for row in catalog} == test_ids
    assert len(catalog) == len(test_ids)
    assert {row["image_id"] for row in reference} == test_ids & good
    assert all(row["defect"] is None for row in reference)
    assert pyarrow.dataset.dataset(held_back / "catalog").schema.equals(CATALOG)
    assert pyarrow.dataset.dataset(held_back / "reference").schema.equals(REFERENCE)
    assert totals.counts["test_catalog/catalog"] == len(catalog)
    assert totals.counts["test_catalog/reference"] == len(reference)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_held_back_catalog_has_at_most_the_asked_size(tmp_path: Path, size: int) -> None:
    photos = [record(f"p{i}") for i in range(30)]
    prepare([write_table(tmp_path / "a.parquet", photos, row_group_size=4)], tmp_path / "out", size)
    available = sum(split_of(photo["image_id"]) == "test" for photo in photos)
    assert len(rows(tmp_path / "out" / "held-back" / "catalog")) == min(size, available)


def test_a_limit_takes_the_first_photos(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.parquet", [record(f"p{i}") for i in range(9)], row_group_size=2)
    units = list_photos([str(table)], limit=5).units
    assert [row["image_id"] for unit in units for row in records(unit)] == [f"p{i}" for i in range(5)]


def test_images_may_be_structs_with_bytes(tmp_path: Path) -> None:
    image = {"bytes": encode(scene()), "path": "a.png"}
    table = pa.table(
        {"image_id": ["p"], "image": [image], "mask": [{"bytes": record()["mask"], "path": None}]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    totals = prepare([tmp_path / "a.parquet"], tmp_path / "out")
    assert totals.counts["masks/good"] == 1
    assert {row["product_type"] for row in rows(tmp_path / "out" / "shards")} == {None}


def test_folders_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_table(tmp_path / f"{name}.parquet", [record(name)])
    units = list_photos([str(tmp_path)]).units
    assert [row["image_id"] for unit in units for row in records(unit)] == ["a", "b"]


def test_a_missing_column_is_named_with_what_was_expected(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["p"], "image": [b""]}), tmp_path / "a.parquet")
    with pytest.raises(
        ConfigurationError, match=r"no column image_id .*its columns are id, image.*image_id: string"
    ):
        list_photos([str(tmp_path)])


@pytest.mark.parametrize(
    ("column", "values"),
    [("image", ["text"]), ("image_id", [7]), ("mask", [1.5]), ("image", [{"path": "x"}])],
)
def test_a_column_of_another_type_is_named(tmp_path: Path, column: str, values: list[Any]) -> None:
    table = pa.table({"image_id": ["p"], "image": [b""], column: values})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ConfigurationError, match=f"column {column} of type"):
        list_photos([str(tmp_path)])


def test_what_is_not_a_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--photos.*nowhere"):
        list_photos([str(tmp_path / "nowhere")])
    (tmp_path / "a.parquet").write_bytes(b"junk")
    with pytest.raises(ConfigurationError, match=r"--photos.*a\.parquet"):
        list_photos([str(tmp_path)])
    table = write_table(tmp_path / "a.parquet", [record()])
    with pytest.raises(ConfigurationError, match="named twice"):
        list_photos([str(table), str(tmp_path)])
    empty = write_table(tmp_path / "empty.parquet", [])
    with pytest.raises(ConfigurationError, match="no rows"):
        list_photos([str(empty)])
