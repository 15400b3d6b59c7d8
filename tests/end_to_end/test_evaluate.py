"""jobs/evaluate.py on the session's Ray, with the real FID network, and the same in this process."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from jobs import command
from jobs.evaluate import main
from tests.catalogs import tree, write_bundle
from tests.training_data import write_dataset

pytestmark = pytest.mark.ray


def evaluate(folder: Path, output: Path, *flags: str) -> dict[str, Any]:
    places = ["--data", str(folder / "set"), "--bundle", str(folder / "one"), str(folder / "two" / "bundle")]
    assert main([*places, "--output", str(output), "--device", "cpu", *flags]) == command.EXIT_OK
    found: dict[str, Any] = json.loads((output / "table.json").read_text())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("evaluate")
    write_dataset(found / "set")
    write_bundle(found / "one")
    write_bundle(found / "two" / "bundle", side=64, seed=1)
    return found


def test_on_ray_and_in_process_the_table_is_the_same(ray_local: None, folder: Path, tmp_path: Path) -> None:
    """Only the last digits of features may differ, because they depend on how many images share a pass."""
    on_ray = evaluate(folder, tmp_path / "ray", "--samples", "3", "--workers", "2")
    here = evaluate(folder, tmp_path / "here", "--samples", "3", "--workers", "0")
    assert [row["name"] for row in here["rows"]] == ["do nothing", "one", "two", "train targets (floor)"] * 3
    for row, expected in zip(on_ray["rows"], here["rows"], strict=True):
        for key, value in expected.items():
            close = key.startswith(("fid", "kid")) and value is not None
            assert row[key] == (pytest.approx(value, rel=1e-3, abs=1e-4) if close else value), key
        assert expected["fid"] > 0
    same = tree(tmp_path / "ray").keys() == tree(tmp_path / "here").keys()
    assert same
    for name, data in tree(tmp_path / "here" / "grids").items():
        assert tree(tmp_path / "ray" / "grids")[name] == data
    assert {key: on_ray[key] for key in ("bundles", "data_rows", "features")} == {
        key: here[key] for key in ("bundles", "data_rows", "features")
    }


def test_errors_of_pairs_need_no_fid_network(ray_local: None, folder: Path, tmp_path: Path) -> None:
    evaluate(folder, tmp_path, "--no-fid")
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert {row["fid"] for row in rows} == {""}
    counts = {(row["defect"], row["name"]): (row["n"], row["n_pairs"]) for row in rows}
    assert counts["watermark", "one"] == ("4", "4")
    assert len(rows) == 9
