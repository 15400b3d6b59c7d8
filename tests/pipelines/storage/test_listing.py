from pathlib import Path

import pytest

from model.errors import ConfigurationError
from pipelines import storage


def test_what_is_written_is_read_and_listed(folder: str) -> None:
    names = [
        "b/2.parquet",
        "a/1.parquet",
        "a/ü %41#[x]*.parquet",
        "a/notes.txt",
        "_SUCCESS",
        "a/.hidden",
        "_x/3.parquet",
    ]
    assert not storage.exists(folder)
    assert storage.list_files(folder) == []
    for name in names:
        storage.write_bytes(storage.join(folder, name), name.encode())
    assert storage.list_files(folder, ".parquet") == [
        storage.join(folder, name) for name in ("a/1.parquet", "a/ü %41#[x]*.parquet", "b/2.parquet")
    ]
    assert storage.list_files(folder + "/") == storage.list_files(folder)
    assert storage.list_files(storage.join(folder, "_SUCCESS")) == [storage.join(folder, "_SUCCESS")]
    assert storage.exists(folder)
    for name in names:
        assert storage.read_bytes(storage.join(folder, name)) == name.encode()


def test_folders_and_their_markers_are_no_files(s3_folder: str, tmp_path: Path) -> None:
    fs, path = storage.resolve(s3_folder)
    fs.pipe_file(path + "/sub/", b"")  # as the AWS console makes folders
    assert storage.list_files(s3_folder) == []
    storage.write_bytes(s3_folder + "/sub/file", b"x")
    assert storage.list_files(s3_folder) == [s3_folder + "/sub/file"]
    assert [p.name for p in storage.fetch_folder(s3_folder, tmp_path).rglob("*")] == ["sub", "file"]


def test_a_listing_stops_at_the_folders_end(folder: str) -> None:
    storage.write_bytes(folder + "/x", b"1")
    storage.write_bytes(folder + "-old/x", b"2")
    assert storage.list_files(folder) == [folder + "/x"]


def test_a_folder_is_fetched_whole(folder: str, tmp_path: Path) -> None:
    for name in ("config.json", "nested/weights"):
        storage.write_bytes(storage.join(folder, name), name.encode())
    fetched = storage.fetch_folder(folder, tmp_path / "copy")
    assert {str(p.relative_to(fetched)): p.read_text() for p in fetched.rglob("*") if p.is_file()} == {
        "config.json": "config.json",
        "nested/weights": "nested/weights",
    }


def test_fetching_nothing_is_a_configuration_error(s3_folder: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing at"):
        storage.fetch_folder(s3_folder, tmp_path / "copy")
