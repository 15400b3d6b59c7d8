"""What a job owns in its output."""

import uuid
from pathlib import Path

from pipelines import storage
from pipelines.storage import outputs
from tests.catalogs import tree


def test_only_the_jobs_own_temporary_files_are_removed(tmp_path: Path) -> None:
    """Those of a killed write: in the output itself, and at any depth in the folders that the job owns."""
    output, outside = tmp_path / "out", tmp_path / "outside"
    temporary = f".{uuid.uuid4().hex}.part"
    for name in ("", "shards", "work/done", "photos", "shards/deep/er"):
        folder = output / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / temporary).write_bytes(b"half")
        (folder / "whole").write_bytes(b"whole")
    for name in (".download.part", "a.part", f"{uuid.uuid4().hex}.part", f".{uuid.uuid4().hex}.parts"):
        (output / "shards" / name).write_bytes(b"of somebody else")
    outside.mkdir()
    (outside / temporary).write_bytes(b"another run's")
    (output / "shards" / "link").symlink_to(outside)
    before = tree(tmp_path)
    outputs.remove_unfinished(str(output), ("shards", "work", "absent"))
    removed = {f"out/{name}{temporary}" for name in ("", "shards/", "shards/deep/er/", "work/done/")}
    assert tree(tmp_path) == {name: content for name, content in before.items() if name not in removed}
    assert removed <= before.keys()


def test_a_killed_write_leaves_what_is_removed(tmp_path: Path) -> None:
    writing = storage.whole_file(str(tmp_path / "shards" / "part.parquet"))
    writing.__enter__().write_bytes(b"half")
    assert tree(tmp_path)
    outputs.remove_unfinished(str(tmp_path), ("shards",))
    assert not tree(tmp_path)


def test_other_storages_have_no_temporary_files(s3_folder: str) -> None:
    name = storage.join(s3_folder, "shards", f".{uuid.uuid4().hex}.part")
    storage.write_bytes(name, b"an object")
    outputs.remove_unfinished(s3_folder, ("shards",))
    assert storage.exists(name)
