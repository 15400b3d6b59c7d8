import json
from pathlib import Path

import pytest

from model.errors import ConfigurationError
from pipelines.correction.run_output import (
    check_output,
    mark_success,
    prepare_output,
    remove_samples,
    write_run,
)


def used(folder: Path) -> Path:
    for name in (
        "images/a/x.jpg",
        "manifest/part.parquet",
        "report/index.html",
        "run.json",
        "_SUCCESS",
        "notes.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def test_a_used_output_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    output = str(used(tmp_path / "out"))
    with pytest.raises(
        ConfigurationError, match=r"--output .*holds a manifest of an earlier run.*--overwrite"
    ):
        check_output(output, (), overwrite=False)
    check_output(output, (), overwrite=True)


def test_checking_writes_nothing(tmp_path: Path) -> None:
    check_output(str(tmp_path / "new"), (), overwrite=True)
    assert not (tmp_path / "new").exists()


def test_replacing_removes_a_runs_files_and_nothing_else(tmp_path: Path) -> None:
    output = used(tmp_path / "out")
    prepare_output(str(output), overwrite=True)
    assert [path.name for path in output.iterdir()] == ["notes.txt"]


def test_without_leave_nothing_is_removed(tmp_path: Path) -> None:
    output = used(tmp_path / "out")
    prepare_output(str(output), overwrite=False)
    assert (output / "images/a/x.jpg").exists()


@pytest.mark.parametrize("inside", ["catalog/out", "catalog"])
def test_an_output_inside_the_catalog_is_refused(tmp_path: Path, inside: str) -> None:
    with pytest.raises(ConfigurationError, match="lies inside --catalog"):
        check_output(str(tmp_path / inside), (str(tmp_path / "catalog"),), overwrite=False)
    check_output(str(tmp_path / "catalog-out"), (str(tmp_path / "catalog"),), overwrite=False)


def test_a_catalog_that_would_be_overwritten_is_refused(tmp_path: Path) -> None:
    for catalog in ("out/images", "out/images/x.parquet", "out/report"):
        with pytest.raises(ConfigurationError, match="where a --catalog lies"):
            check_output(str(tmp_path / "out"), (str(tmp_path / catalog),), overwrite=True)
    check_output(str(tmp_path / "out"), (str(tmp_path / "out" / "catalog"),), overwrite=True)


def test_a_file_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match=r"--output .*file: is a file; give a folder"):
        check_output(str(tmp_path / "file"), (), overwrite=True)


def test_on_s3_as_on_a_disk(s3_folder: str) -> None:
    from pipelines import storage

    prepare_output(s3_folder, overwrite=False)
    storage.write_bytes(f"{s3_folder}/manifest/a.parquet", b"x")
    storage.write_bytes(f"{s3_folder}/.samples/fid/a.parquet", b"x")
    with pytest.raises(ConfigurationError, match="--overwrite"):
        check_output(s3_folder, (), overwrite=False)
    remove_samples(s3_folder)
    assert not storage.exists(f"{s3_folder}/.samples/fid/a.parquet")
    prepare_output(s3_folder, overwrite=True)
    check_output(s3_folder, (), overwrite=False)


def test_the_marks_of_a_run(tmp_path: Path) -> None:
    write_run(str(tmp_path), {"state": "complete", "path": tmp_path})
    mark_success(str(tmp_path))
    assert json.loads((tmp_path / "run.json").read_text()) == {"state": "complete", "path": str(tmp_path)}
    assert (tmp_path / "_SUCCESS").read_bytes() == b""
