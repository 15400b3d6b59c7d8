"""The whole check in this process, and the same on Ray."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigurationError
from pipelines.checking import job
from pipelines.checking.config import CheckConfig, resolve
from pipelines.checking.findings import KINDS
from pipelines.checking.similarity import SAME_PICTURE
from tests.catalogs import tree
from tests.checking_data import faulty, healthy, leaking, row, write

HOSTILE = "<script>alert(1)</script>\x07"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards with one of every finding."""
    again = [row("twice", 31), row(HOSTILE, 32, source=b"GIF", product_type="<b>box</b>")]
    return write(tmp_path_factory.mktemp("data") / "set", healthy(), [*faulty(), *again], leaking())


def check(data: Path, output: Path, workers: int = 0, **settings: Any) -> dict[str, Any]:
    config = CheckConfig((str(data),), str(output), workers=workers, **settings)
    job.run(resolve(config))
    health: dict[str, Any] = json.loads((output / "health.json").read_text())
    return health


@pytest.fixture(scope="module")
def report(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("report")
    check(data, output)
    return output


def test_every_finding_is_counted(report: Path) -> None:
    health = json.loads((report / "health.json").read_text())
    counts = {name: one["count"] for name, one in health["findings"].items()}
    expected = dict.fromkeys(KINDS, 1) | {
        "near_duplicates_across": 2,
        "repeated_keys": 2,
        "unreadable": 2,
        "same_bytes_within": 0,
        "not_compared": 0,
    }
    assert counts == expected
    assert not health["healthy"]
    assert health["problems"]["near-duplicates across the split"] == 2
    assert health["notes"]["repeated (image_id, defect)"] == 2
    assert health["unreadable_by_code"] == {"truncated": 1, "unknown_format": 1}
    assert health["rows"] == 23
    assert health["rows_by"]["split"] == {"other": 1, "test": 6, "train": 16}


def test_pairs_that_were_not_compared_are_a_problem(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_at_once = check(data, tmp_path / "whole")
    monkeypatch.setattr(job, "ROUND", 1)
    assert check(data, tmp_path / "rounds") == all_at_once
    assert tree(tmp_path / "rounds") == tree(tmp_path / "whole")
    compared = all_at_once["near_duplicates"]["compared"]
    assert compared > 1
    fewer = check(data, tmp_path / "fewer", compare_at_most=compared - 1)
    assert fewer["findings"]["not_compared"] == {"count": 1, "fails_strict": True, "examples": []}
    assert "1 others were not compared:</strong> raise" in (tmp_path / "fewer" / "index.html").read_text()


def test_leaks_are_named_on_both_sides(report: Path) -> None:
    health = json.loads((report / "health.json").read_text())["findings"]
    near = health["near_duplicates_across"]["leaks"]
    assert {(one["test"]["image_id"], one["train"]["image_id"]) for one in near} == {
        ("copy-jpeg", "p0"),
        ("copy-crop", "p1"),
    }
    for leak in near:
        assert leak["test"]["shard"].endswith("part-2.parquet")
        assert leak["train"]["shard"].endswith("part-0.parquet")
        assert leak["train"]["row"] == int(leak["train"]["image_id"][1:])
        assert leak["train"]["image"] == "target"
        assert leak["distance"] <= 8
        assert SAME_PICTURE <= leak["similarity"] <= 1
    (same,) = health["same_bytes_across"]["leaks"]
    assert (same["test"]["image_id"], same["train"]["image_id"]) == ("copy-bytes", "p3")
    (ids,) = health["ids_across"]["examples"]
    assert [one["image_id"] for one in ids] == ["p4", "p4"]


def test_the_page_shows_leaks_and_escapes_all_text(report: Path) -> None:
    page = (report / "index.html").read_text()
    for text in ("copy-jpeg", "copy-crop", "copy-bytes", "of 64 bits differ", "unreadable images", "blurred"):
        assert text in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>box" not in page
    assert "\x07" not in page
    assert (report / "sheets" / "watermark.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (report / "sheets").iterdir()} == {"watermark.png", "wrong_angle.png"}


def test_healthy_data_have_no_problem_and_no_note(tmp_path: Path) -> None:
    write(tmp_path / "set", healthy())
    health = check(tmp_path / "set", tmp_path / "out")
    assert health["healthy"]
    assert (health["problems"], health["notes"]) == ({}, {})
    assert "No problem in 6 rows" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.ray
def test_on_ray_the_report_is_the_same_byte_for_byte(
    ray_local: None, data: Path, report: Path, tmp_path: Path
) -> None:
    check(data, tmp_path, workers=2)
    assert tree(tmp_path) == tree(report)


def test_an_earlier_report_is_replaced_only_when_asked(data: Path, report: Path, tmp_path: Path) -> None:
    config = CheckConfig((str(data),), str(report), workers=0)
    with pytest.raises(ConfigurationError, match="of an earlier check"):
        resolve(config)
    assert resolve(replace(config, overwrite=True)).preview()["plan"]["replaces"] == [
        "health.json",
        "index.html",
        "sheets",
    ]
    (tmp_path / "sheets").mkdir()
    with pytest.raises(ConfigurationError, match="a folder sheets that no check of a dataset made"):
        resolve(replace(config, output=str(tmp_path), overwrite=True))


def test_a_report_among_the_shards_is_refused(data: Path) -> None:
    with pytest.raises(ConfigurationError, match="lies among the shards of"):
        check(data, data / "shards" / "report")
