import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import storage


def test_local_uris_become_absolute_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("some/folder") == str(tmp_path / "some" / "folder")
    assert storage.absolute(f"file://{tmp_path}/x") == str(tmp_path / "x")
    assert storage.absolute(f"file://localhost{tmp_path}/x%20y/") == str(tmp_path / "x y")
    assert storage.absolute("~/x") == str(Path.home() / "x")
    assert storage.absolute("memory://a/b") == storage.absolute("memory://a/b/") == "memory://a/b"
    assert storage.is_local("x")
    assert not storage.is_local("memory://a")


@given(st.lists(st.text("ab/", min_size=1, max_size=4), min_size=1, max_size=4))
def test_joined_parts_have_single_slashes_between(parts: list[str]) -> None:
    joined = storage.join("s3://bucket/", *parts)
    assert joined.startswith("s3://bucket/")
    assert joined.count("/") == 2 + len(parts) + sum(part.strip("/").count("/") for part in parts)


def test_arrow_sees_the_same_place_also_after_a_pickle(folder: str) -> None:
    table = pa.table({"image_id": ["a", "b"]})
    fs, path = pickle.loads(pickle.dumps(storage.arrow_filesystem(storage.join(folder, "part.parquet"))))
    fs.create_dir(path.rsplit("/", 1)[0])
    pq.write_table(table, path, filesystem=fs)
    assert storage.list_files(folder, ".parquet") == [storage.join(folder, "part.parquet")]
    assert pq.read_table(path, filesystem=fs).equals(table)
