import hashlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.shards.index import SOURCE, TARGET, Findings, build_index
from pipelines.shards.writer import GROUP_ROWS, ShardWriter

DEFECTS = {name: defect.group for name, defect in LabelMap.default().defects.items()}


def photo(number: int, paired: bool = True, size: int = 40) -> list[dict[str, Any]]:
    """Return the rows of one photo, with bytes that do not repeat, except for the target that its rows share."""
    target = hashlib.sha256(f"t{number}".encode()).digest() * size if paired else None
    return [
        {
            "image_id": f"p{number}",
            "source": hashlib.sha256(f"{defect}{number}".encode()).digest() * size,
            "target": target,
            "pairing": "paired" if paired else "unpaired",
            "group": group,
            "defect": defect,
            "product_type": "shirt",
            "split": "train",
        }
        for defect, group in (DEFECTS if paired else {"non_white_background": "background"}).items()
    ]


def write(folder: Path, photos: list[list[dict[str, Any]]], shard_bytes: int = 1 << 30) -> ShardWriter:
    writer = ShardWriter(str(folder), "part-7", SHARD, shard_bytes, ("source", "target"), ("target",))
    with writer:
        for rows in photos:
            writer.add(rows)
    return writer


def groups(path: Path) -> list[list[dict[str, Any]]]:
    with pq.ParquetFile(path) as file:
        return [file.read_row_group(number).to_pylist() for number in range(file.num_row_groups)]


def test_all_rows_are_written_and_no_row_group_mixes_pairs_with_unpaired_rows(tmp_path: Path) -> None:
    photos = [photo(i, paired=i % 3 > 0) for i in range(200)]
    writer = write(tmp_path, photos)
    assert writer.names == ["part-7-000.parquet"]
    written = groups(tmp_path / writer.names[0])
    assert sum(map(len, written)) == writer.rows == sum(map(len, photos))
    expected = sorted(
        (row["image_id"], row["defect"], row["source"], row["target"]) for rows in photos for row in rows
    )
    assert (
        sorted((r["image_id"], r["defect"], r["source"], r["target"]) for rows in written for r in rows)
        == expected
    )
    assert all(len({row["pairing"] for row in rows}) == 1 for rows in written)
    assert max(map(len, written)) < GROUP_ROWS + len(DEFECTS)


def test_the_footer_alone_tells_the_index_which_images_rows_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = write(tmp_path, [photo(i, paired=i % 2 > 0) for i in range(60)])
    monkeypatch.setattr("pipelines.shards.index._check_samples", lambda *_: Findings())
    read = []
    original = pq.ParquetFile.iter_batches

    def iter_batches(self: Any, *arguments: Any, **settings: Any) -> Any:
        read.append(settings.get("columns"))
        return original(self, *arguments, **settings)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    index = build_index([str(tmp_path / writer.names[0])], LabelMap.default())
    assert read == []
    assert set((index.kinds & (SOURCE | TARGET)).tolist()) == {SOURCE, SOURCE | TARGET}


def test_a_file_that_has_reached_its_size_is_closed_and_the_next_begun(tmp_path: Path) -> None:
    photos = [photo(i) for i in range(400)]
    writer = write(tmp_path, photos, shard_bytes=400_000)
    sizes = [(tmp_path / name).stat().st_size for name in writer.names]
    assert writer.names == [f"part-7-{number:03}.parquet" for number in range(len(sizes))]
    assert len(sizes) > 2
    assert all(380_000 < size < 900_000 for size in sizes[:-1])
    assert sum(pq.read_metadata(tmp_path / name).num_rows for name in writer.names) == 1200


def test_large_images_make_row_groups_of_fewer_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.shards.writer.GROUP_BYTES", 50_000)
    writer = write(tmp_path, [photo(i, size=200) for i in range(20)])
    written = groups(tmp_path / writer.names[0])
    assert len(written) == 10
    assert {len(rows) for rows in written} == {6}


def test_a_target_that_several_rows_share_is_stored_once(tmp_path: Path) -> None:
    writer = write(tmp_path, [photo(i, size=2000) for i in range(30)])
    assert (tmp_path / writer.names[0]).stat().st_size < 30 * 4 * 2000 * 32 * 1.02


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write(tmp_path / name, [photo(i, paired=i % 4 > 0) for i in range(100)])
    one, other = ((tmp_path / name / "part-7-000.parquet").read_bytes() for name in ("one", "other"))
    assert one == other


def test_nothing_is_left_of_a_unit_that_failed(tmp_path: Path) -> None:
    writer = ShardWriter(str(tmp_path), "part", SHARD, 1 << 30, ("source", "target"), ("target",))

    def fail_midway() -> None:
        with writer:
            for number in range(100):
                writer.add(photo(number))
            raise KeyError

    with pytest.raises(KeyError):
        fail_midway()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_if_the_last_rows_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    writer = ShardWriter(str(tmp_path), "part", SHARD, 1 << 30, ("source", "target"), ("target",))
    with pytest.raises(OSError, match="no space left"), writer:
        writer.add(photo(1))
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_earlier_attempt_that_got_further_are_removed(tmp_path: Path) -> None:
    photos = [photo(i) for i in range(400)]
    assert len(write(tmp_path, photos, shard_bytes=400_000).names) > 2
    neighbour = tmp_path / "part-70-001.parquet"
    neighbour.write_bytes(b"")
    writer = write(tmp_path, photos[:50], shard_bytes=400_000)
    assert {path.name for path in tmp_path.iterdir()} == {*writer.names, neighbour.name}
    write(tmp_path, [])
    assert [path.name for path in tmp_path.iterdir()] == [neighbour.name]


def test_without_rows_there_is_no_file(tmp_path: Path) -> None:
    assert write(tmp_path, []).names == []
    assert list(tmp_path.iterdir()) == []


def test_shards_can_be_written_to_any_storage(s3_folder: str) -> None:
    with ShardWriter(s3_folder, "part", SHARD, 1 << 30, ("source", "target"), ("target",)) as writer:
        writer.add(photo(1))
    (uri,) = storage.list_files(s3_folder)
    filesystem, path = storage.arrow_filesystem(uri)
    assert pq.read_table(path, filesystem=filesystem).num_rows == 3
