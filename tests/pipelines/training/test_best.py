"""best.json and the folder that it names."""

import math

import pytest

from pipelines import storage
from pipelines.training.best import Best, folder_for, point_to, read_best, would_be_best


def write(output: str, step: int, score: float) -> None:
    folder = folder_for(output, step)
    storage.write_bytes(storage.join(output, folder, "config.json"), b"{}")
    point_to(output, Best(folder, step, "fid", score))


def test_the_best_is_what_scored_lowest_by_the_same_metric(s3_folder: str) -> None:
    assert read_best(s3_folder) is None
    assert would_be_best(s3_folder, "fid", 50.0)
    write(s3_folder, 2, 50.0)
    write(s3_folder, 4, 40.0)
    assert read_best(s3_folder) == Best("best/step-000004", 4, "fid", 40.0)
    files = storage.list_files(s3_folder)
    assert [uri[len(s3_folder) :] for uri in files] == ["/best.json", "/best/step-000004/config.json"]
    assert not would_be_best(s3_folder, "fid", 40.0)
    assert would_be_best(s3_folder, "fid", 39.0)
    assert would_be_best(s3_folder, "l1", 99.0)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_never_the_best(score: float, tmp_path) -> None:
    assert not would_be_best(str(tmp_path), "fid", score)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"step": 2}', b'{"bundle": "b", "step": "x"}'])
def test_a_damaged_pointer_is_ignored_with_a_warning(
    content: bytes, tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "best.json").write_bytes(content)
    assert read_best(str(tmp_path)) is None
    assert "best.json is damaged" in caplog.text
