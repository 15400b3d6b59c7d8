import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from model.errors import RunError
from pipelines import storage
from pipelines.contracts.schemas import CATALOG, REFERENCE, SHARD
from pipelines.contracts.splits import split_of
from pipelines.images.decode import decode_image
from pipelines.preparation.finish.collect import collect, remove_done
from pipelines.preparation.totals import LISTED, SHOWN, UnitRecord
from pipelines.preparation.unit import unit as unit_module
from pipelines.preparation.unit.resolve import records
from pipelines.preparation.unit.rows import read_sample
from pipelines.preparation.unit.unit import UnitStorageError, prepare_unit
from tests.photo_tables import HEIGHT, WIDTH, encode, record, scene, write_table
from tests.preparation import SETTINGS, digests, planned, prepare


def rows(folder: Path) -> list[dict[str, Any]]:
    return pyarrow.dataset.dataset(folder).to_table().to_pylist()


def test_shards_have_the_agreed_schema_and_all_rows_of_a_photo_on_one_side(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.parquet", [record(f"p{i}") for i in range(12)])
    totals = prepare([table], tmp_path / "out")
    assert pyarrow.dataset.dataset(tmp_path / "out" / "shards").schema.equals(SHARD)
    made = rows(tmp_path / "out" / "shards")
    assert len(made) == 36
    assert len({(row["image_id"], row["defect"]) for row in made}) == 36
    assert all(row["split"] == split_of(row["image_id"]) for row in made)
    assert totals.counts["entries/prepared"] == 12
    assert sum(n for key, n in totals.counts.items() if key.startswith("rows/")) == 36


def test_making_a_unit_again_writes_the_same_bytes_to_the_same_names(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.parquet", [record(f"p{i}") for i in range(6)], row_group_size=3)
    first = prepare([table], tmp_path / "out")
    before = digests(tmp_path / "out")
    assert prepare([table], tmp_path / "out") == first
    assert digests(tmp_path / "out") == before


def test_shards_are_named_after_their_unit(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.parquet", [record(f"p{i}") for i in range(7)], row_group_size=3)
    prepare([table], tmp_path / "out", unit_size=3)
    made = {
        path.name: sorted(set(pq.read_table(path)["image_id"].to_pylist()))
        for path in (tmp_path / "out" / "shards").iterdir()
    }
    assert made == {
        "part-000000-000.parquet": ["p0", "p1", "p2"],
        "part-000001-000.parquet": ["p3", "p4", "p5"],
        "part-000002-000.parquet": ["p6"],
    }


def test_content_does_not_depend_on_the_order_or_the_files_of_photos(tmp_path: Path) -> None:
    photos = [record(f"sku-{i}", mask=None if i == 3 else record()["mask"]) for i in range(9)]
    whole = write_table(tmp_path / "whole.parquet", photos)
    parts = [
        write_table(tmp_path / "x.parquet", photos[:3:-1], row_group_size=2),
        write_table(tmp_path / "y.parquet", photos[3::-1], row_group_size=1),
    ]
    one, other = prepare([whole], tmp_path / "one", 2), prepare(parts, tmp_path / "other", 2, unit_size=4)
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


def test_photos_that_cannot_be_read_are_counted_and_the_others_are_prepared(tmp_path: Path) -> None:
    bad = [record(f"bad{i:03}", image=b"junk") for i in range(LISTED + 5)]
    photos = [record("good"), *bad, record("empty", image=None)]
    work = planned([write_table(tmp_path / "a.parquet", photos, row_group_size=7)], tmp_path / "out")
    for unit in range(work.plan.units):
        prepare_unit(unit, work)
    totals = collect(work).totals
    assert totals.counts["entries/prepared"] == 1
    assert totals.counts["entries/unreadable"] == len(photos) - 1
    assert totals.counts["unreadable/unknown_format"] == len(bad)
    assert totals.counts["unreadable/no_image"] == 1
    assert len(totals.unreadable) == LISTED
    assert {row["image_id"] for row in rows(tmp_path / "out" / "shards")} == {"good"}


def test_the_held_back_catalog_has_test_photos_only_and_trusted_references(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("size", [None, 1, 3])
def test_one_image_with_two_given_defects_is_two_of_the_held_back_catalog(
    tmp_path: Path, size: int | None
) -> None:
    picture = encode(scene())
    ids = [f"p{i}" for i in range(20) if split_of(f"p{i}") == "test"]
    pairs = [
        {"image_id": image_id, "source": picture, "target": picture, "defect": defect}
        for image_id in ids
        for defect in ("watermark", "wrong_angle")
    ]
    pq.write_table(pa.Table.from_pylist(pairs), tmp_path / "a.parquet")
    prepare([tmp_path / "a.parquet"], tmp_path / "out", size)
    ids_written = [row["image_id"] for row in rows(tmp_path / "out" / "held-back" / "catalog")]
    assert (
        len(set(ids_written)) == len(ids_written) == min(size or len(pairs), len(pairs))
    )  # correction refuses repeated ids


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_held_back_catalog_has_at_most_the_asked_size(tmp_path: Path, size: int) -> None:
    photos = [record(f"p{i}") for i in range(30)]
    prepare([write_table(tmp_path / "a.parquet", photos, row_group_size=4)], tmp_path / "out", size)
    available = sum(split_of(photo["image_id"]) == "test" for photo in photos)
    assert len(rows(tmp_path / "out" / "held-back" / "catalog")) == min(size, available)


def test_images_may_be_structs_with_bytes(tmp_path: Path) -> None:
    image = {"bytes": encode(scene()), "path": "a.png"}
    table = pa.table(
        {"image_id": ["p"], "image": [image], "mask": [{"bytes": record()["mask"], "path": None}]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    totals = prepare([tmp_path / "a.parquet"], tmp_path / "out")
    assert totals.counts["masks/good"] == 1
    assert {row["product_type"] for row in rows(tmp_path / "out" / "shards")} == {None}


def test_masks_are_counted_by_quality_and_those_near_the_threshold_are_kept(tmp_path: Path) -> None:
    doubtful = encode(np.full((HEIGHT, WIDTH), 128, np.uint8))
    photos = [record(f"good{i:02}") for i in range(SHOWN + 3)]
    photos += [record("doubtful", mask=doubtful), record("bare", mask=None)]
    work = planned([write_table(tmp_path / "a.parquet", photos)], tmp_path / "out")
    for unit in range(work.plan.units):
        prepare_unit(unit, work)
    total = collect(work)
    counts = total.totals.counts
    assert sum(n for key, n in counts.items() if key.startswith("quality/")) == len(photos) - 1
    assert (counts["masks/good"], counts["masks/doubtful"], counts["masks/missing"]) == (SHOWN + 3, 1, 1)
    assert [(e.image_id, e.quality < SETTINGS.min_quality) for e in total.rejected] == [("doubtful", True)]
    assert [e.image_id for e in total.accepted] == [f"good{i:02}" for i in range(SHOWN)]
    assert counts[f"doubtful_because/{total.rejected[0].lowest}"] == 1


def test_absent_and_damaged_masks_are_counted_with_their_codes(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", [record("damaged", mask=b"junk")])
    (tmp_path / "p.png").write_bytes(encode(scene()))
    (tmp_path / "b.csv").write_text("image_id,uri,mask_uri\nabsent,p.png,gone.png\n")
    counts = prepare([tmp_path / "a.parquet", tmp_path / "b.csv"], tmp_path / "out").counts
    assert (counts["masks/unreadable"], counts["entries/prepared"]) == (2, 2)
    assert counts["unreadable_masks/missing"] == counts["unreadable_masks/unknown_format"] == 1
    assert {row["pairing"] for row in rows(tmp_path / "out" / "shards")} == {"unpaired"}


def test_photos_without_a_mask_get_one_from_saliency_in_their_order(tmp_path: Path) -> None:
    sizes = []

    def saliency(images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        sizes.append(len(images))
        # Red is product: a mask of another photo would cut through this one.
        return [(image[..., 0] > 150).astype(np.float32) for image in images]

    def at(shift: int) -> NDArray[np.uint8]:
        return np.roll(scene(), shift, axis=1)

    photos = [
        record(f"p{i}") if i % 5 == 4 else record(f"p{i}", image=encode(at(i % 7 - 3)), mask=None)
        for i in range(40)
    ]
    work = planned([write_table(tmp_path / "a.parquet", photos)], tmp_path / "out", unit_size=40)
    prepare_unit(0, work, saliency)
    counts = UnitRecord.from_bytes((tmp_path / "out/work/done/000000.parquet").read_bytes()).totals.counts
    assert (counts["masks/saliency_good"], counts["masks/good"]) == (32, 8)
    assert sum(sizes) == 32
    assert len(sizes) < 5
    for row in rows(tmp_path / "out" / "shards"):
        if row["defect"] == "non_white_background":
            target, photo = decode_image(row["target"]).astype(int), decode_image(row["source"]).astype(int)
            is_product = photo[..., 0] > 180
            assert np.abs(target - photo)[is_product].max() < 40


def test_only_one_images_bytes_are_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def observed(entries: Any) -> Any:
        for unread in records(entries):
            events.append("read")
            yield unread

    def decoded(unread: Any, settings: Any) -> Any:
        events.append("decoded")
        return read_sample(unread, settings)

    monkeypatch.setattr(unit_module, "records", observed)
    monkeypatch.setattr(unit_module, "read_sample", decoded)
    prepare([write_table(tmp_path / "a.parquet", [record(f"p{i}") for i in range(5)])], tmp_path / "out")
    assert events == ["read", "decoded"] * 5


def test_a_shard_that_no_unit_wrote_is_an_error(tmp_path: Path) -> None:
    work = planned([write_table(tmp_path / "a.parquet", [record()])], tmp_path / "out")
    prepare_unit(0, work)
    (tmp_path / "out" / "shards" / "part-000001-000.parquet").write_bytes(b"of a dataset before")
    with pytest.raises(RunError, match="1 shards written, 2 in"):
        collect(work)


def test_unfinished_files_of_killed_workers_are_removed_at_the_end(tmp_path: Path) -> None:
    work = planned([write_table(tmp_path / "a.parquet", [record()])], tmp_path / "out")
    prepare_unit(0, work)
    folders = [tmp_path / "out" / name for name in ("shards", "held-back/catalog", "held-back/reference")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".{uuid.uuid4().hex}.part").write_bytes(b"half")
    remove_done(work)
    assert not [path for folder in folders for path in folder.glob(".*")]


def test_lost_shards_and_lost_entries_are_an_error(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.parquet", [record(f"p{i}") for i in range(5)])
    work = planned([table], tmp_path / "out", unit_size=3)
    for unit in range(2):
        prepare_unit(unit, work)
    collect(work)
    more = replace(work, plan=replace(work.plan, listed=work.plan.listed + 1))
    with pytest.raises(RunError, match="rows were lost or doubled: 6 entries listed, 5 accounted for"):
        collect(more)
    (tmp_path / "out" / "shards" / "part-000001-000.parquet").unlink()
    with pytest.raises(RunError, match="2 shards written, 1 in"):
        collect(work)


def test_a_storage_failure_is_the_units_and_not_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = planned([write_table(tmp_path / "a.parquet", [record()])], tmp_path / "out")

    def full(uri: str, data: bytes) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(storage, "write_bytes", full)
    with pytest.raises(UnitStorageError, match="unit 0: OSError: no space left"):
        prepare_unit(0, work)
    assert not storage.list_files(work.done_folder)
