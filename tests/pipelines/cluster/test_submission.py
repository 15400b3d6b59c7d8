import json
from pathlib import Path

import pytest

from pipelines.cluster import submission
from tests.submitted import submit


def test_uris_inside_the_submitted_folder_go_with_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = submit(tmp_path, monkeypatch)
    inside = ["out", "./out", str(folder / "out"), f"file://{folder}/out", str(folder), "sub/../out"]
    (tmp_path / "link").symlink_to(folder)
    inside.append(str(tmp_path / "link" / "out"))
    assert [uri for uri in inside if not submission.goes_with_the_job(uri)] == []
    outside = [
        "../out",
        str(tmp_path / "out"),
        "s3://bucket/out",
        "~/out",
        "",
        "memory://out",
        f"{folder}-2/out",
    ]
    assert [uri for uri in outside if submission.goes_with_the_job(uri)] == []


def test_a_job_that_changed_its_working_directory_is_still_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = submit(tmp_path, monkeypatch)
    (folder / "jobs").mkdir()
    monkeypatch.chdir(folder / "jobs")
    assert submission.goes_with_the_job("../out")
    monkeypatch.chdir(tmp_path)  # Ray has put the folder on the job's PYTHONPATH too
    assert submission.goes_with_the_job(str(folder / "out"))
    assert not submission.goes_with_the_job("out")


@pytest.mark.parametrize("working_dir", [None, "local:///app"])
def test_without_a_submitted_folder_no_uri_goes_with_the_job(
    working_dir: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not submission.goes_with_the_job("out")  # not a submitted job at all
    runtime_env = {"working_dir": working_dir} if working_dir else {}
    monkeypatch.setenv(submission.VARIABLE, json.dumps({"runtime_env": runtime_env}))
    assert not submission.goes_with_the_job("out")
