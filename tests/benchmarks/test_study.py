"""Tests of the study's machinery on drawn scenes: nothing here says how good a method is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipelines.images.encode import encode_mask
from pipelines.training.generator.loop import Training
from tests.benchmarks.study import queue, tables
from tests.benchmarks.study.attention import heat
from tests.benchmarks.study.datasets import belongs, labelled, masked, prepare
from tests.benchmarks.study.places import PAGE, Places
from tests.benchmarks.study.plan import DATA, SMALL, STUDY, Row, Run, Study
from tests.benchmarks.study.results import read_results
from tests.benchmarks.study.scores import ANSWERS
from tests.benchmarks.study.spoil import spoil

DEFECTS = ("wrong_angle", "watermark", "non_white_background")
ROWS = ("proposed", "no_labels")


def of_rows(*names: str) -> Study:
    """Return the small study with these rows only."""
    return replace(SMALL, rows=tuple(row for row in SMALL.rows if row.name in names))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Return the places of a small study that was killed during its first training, and then went on."""
    folder = tmp_path_factory.mktemp("study")
    places, study = Places(folder / "work", folder / "docs"), of_rows(*ROWS)
    threads, update = torch.get_num_threads(), Training.update
    torch.set_num_threads(1)

    def killed(training: Training, *arguments: Any) -> Any:
        if training.step == 5:
            raise KeyboardInterrupt
        return update(training, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            queue.work_off(study, places)
    first = next(study.runs())
    assert queue.state(first, places) == queue.BEGUN
    assert queue.step_of(first, places) == 4
    queue.work_off(study, places)
    yield places
    torch.set_num_threads(threads)


def test_a_killed_queue_continues_from_the_newest_checkpoint(finished: Places) -> None:
    first, second = read_results(finished.results, of_rows(*ROWS))
    assert [session["step"] for session in first.content["sessions"]] == [0, 4]
    assert [session["step"] for session in second.content["sessions"]] == [0]
    assert first.content["curve"][-1]["step"] == SMALL.steps


def test_each_row_has_its_scores_stress_hours_command_and_picture(finished: Places) -> None:
    for result in read_results(finished.results, of_rows(*ROWS)):
        content = result.content
        assert set(result.scores()) == set(result.scores("nothing")) == set(DEFECTS)
        assert all(row["psnr"] is not None for row in result.scores().values())
        assert content["hours"] > 0
        assert content["command"].startswith("python jobs/train.py --data data/paper --output runs/")
        assert finished.picture(result.run).read_bytes()[:2] == b"\xff\xd8"
        seen = {(row["group"], row["type"]) for row in content["stress"]["labels"]}
        assert len(seen) == (6 if result.run.row.name == "proposed" else 1)


def test_a_finished_study_trains_nothing_more(finished: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "finish", lambda *_: pytest.fail("a finished run was taken up again"))
    queue.work_off(of_rows(*ROWS), finished)
    lines = list(queue.progress(of_rows(*ROWS), finished))
    assert all(queue.DONE in line for line in lines)
    assert len(lines) == len(ROWS)


def test_the_tables_are_made_from_the_results_alone(finished: Places, tmp_path: Path) -> None:
    page = tmp_path / "study.md"
    tables.write(page, finished.results, of_rows(*ROWS))
    made = page.read_text()
    assert "| `no_labels` |" in made
    tables.write(page, finished.results, of_rows(*ROWS))
    assert page.read_text() == made


def test_a_training_that_diverges_is_noted_and_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.errors import RunError

    places, study, taken = Places(tmp_path / "work", tmp_path), of_rows(*ROWS), []

    def diverges(run: Run, *_: Any) -> None:
        taken.append(run.row.name)
        raise RunError("the loss is not finite")

    monkeypatch.setattr(queue, "finish", diverges)
    queue.work_off(study, places)
    queue.work_off(study, places)
    assert taken == list(ROWS)
    assert all("the loss is not finite" in line for line in queue.progress(study, places))


def test_wrong_labels_are_given_to_the_share_of_rows_that_is_asked_for(tmp_path: Path) -> None:
    ids = [f"photo-{number}" for number in range(3000)]
    wrong = [labelled(name, "watermark", 0.2, DEFECTS) for name in ids]
    assert 0.17 < sum(defect != "watermark" for defect in wrong) / len(ids) < 0.23
    assert set(wrong) == set(DEFECTS)


def test_relabelled_data_has_the_rows_and_images_of_the_right_ones(finished: Places) -> None:
    rows = {}
    for name in ("paper", "wrong_labels_20"):
        folder = prepare(name, SMALL, finished)
        files = sorted((folder / "shards").glob("*.parquet"))
        rows[name] = [row for file in files for row in pq.read_table(file).to_pylist()]
    right, wrong = ({(row["image_id"], row["source"]): row for row in rows[name]} for name in rows)
    assert right.keys() == wrong.keys()
    changed = [key for key in right if right[key]["defect"] != wrong[key]["defect"]]
    assert 0 < len(changed) < len(right) / 2
    fingerprints = {(finished.data(name) / "dataset.json").read_text() for name in rows}
    assert len(fingerprints) == 2


def test_a_third_of_the_masks_is_spoilt_in_three_ways_and_always_alike() -> None:
    mask = np.zeros((120, 90), np.uint8)
    mask[30:90, 25:65] = 255
    ids = [f"photo-{number}" for number in range(600)]
    rows = [{"image_id": name, "mask": encode_mask(mask)} for name in ids]
    kept = [row for row in (masked(row, DATA["spoilt"]) for row in rows) if row["mask"] is not None]
    assert 0.6 < len(kept) / len(ids) < 0.73  # the others are ignored
    assert 0.28 < sum(row["mask"] != rows[0]["mask"] for row in kept) / len(kept) < 0.39
    assert [masked(row, DATA["test"]) for row in rows] == rows
    spoilt = [spoil(mask, name) for name in ids[:60]]
    areas = {np.sign(int(one.sum()) - int(mask.sum())) for one in spoilt}
    assert areas == {-1, 0, 1}  # holes, a shift, a dilation
    assert all((one != mask).any() for one in spoilt)
    assert all((spoil(mask, name) == one).all() for name, one in zip(ids, spoilt, strict=False))


def test_other_goods_are_unpaired_and_a_third_of_them_trains_and_none_tests() -> None:
    others = [{"image_id": f"object-{n}", "product_type": "lamp", "mask": None} for n in range(900)]
    trained, tested = ([one for one in others if belongs(one, DATA[name])] for name in ("paper", "test"))
    assert 0.2 < len(trained) / len(others) < 0.34  # of four in five
    assert tested == []
    shoe = {"image_id": "shoe", "product_type": "shoes", "mask": b"mask"}
    assert belongs(shoe, DATA["paper"]) != belongs(shoe, DATA["test"])
    assert not belongs(shoe, DATA["without_types"])


def test_heat_is_white_at_zero_red_above_and_blue_below() -> None:
    picture = heat(np.array([[2.0, 0.0], [-2.0, -1.0]], np.float32), 4)
    assert picture.shape == (4, 4, 3)
    assert picture[0, 0].tolist() == [255, 0, 0]
    assert picture[0, 3].tolist() == [255, 255, 255]
    assert picture[3, 0].tolist() == [0, 0, 255]
    assert picture[3, 3].tolist() == [128, 128, 255]


def result_file(folder: Path, run: Run, fid: float) -> None:
    """Write a result whose FIDs are `fid` for each defect, with narrow intervals."""

    def row(name: str, defect: str, value: float) -> dict[str, Any]:
        left_out = [value + share for share in (0.1, -0.1, 0.05, -0.05)]
        figures = {"fid": value, "fid_ci95": [value - 1, value + 1], "fid_left_out": left_out}
        return {
            "defect": defect,
            "name": name,
            "n": 50,
            "n_reference": 50,
            "n_pairs": 40,
            **figures,
            "kid": 0.01,
            "kid_ci95": [0.009, 0.011],
            "psnr": 20.0,
            "psnr_ci95": [19.0, 21.0],
        }

    rows = [row(ANSWERS, defect, fid) for defect in DEFECTS] + [
        row("nothing", defect, 80) for defect in DEFECTS
    ]
    content = {
        "scores": {"test": rows},
        "validation": [],
        "data": "paper",
        "parameters": 4_000_000,
        "samples": 15_000,
        "hours": 2.5,
        "sessions": [{"commit": "abc"}],
        "stress": {"labels": [], "clean": [], "uploads": []},
    }
    path = Places(folder, folder).result(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_the_headline_is_the_mean_relative_reduction_beside_the_papers(tmp_path: Path) -> None:
    rows = (Row("proposed", "proposed", ""), Row("no_labels", "no_labels", ""))
    study = replace(SMALL, rows=rows)
    for row, fid in zip(rows, (20.0, 50.0), strict=True):
        result_file(tmp_path, Run(row, 0), fid)
    page = tables.filled(
        "<!-- study: reductions --><!-- end of study -->", read_results(tmp_path, study), study
    )
    assert "| `proposed`, against doing nothing | 75.0% (" in page
    assert "| `proposed`, against `no_labels` | 60.0% (" in page
    assert "*63.2%*" in page  # the paper's own figure against WS-I2I


def test_an_unknown_table_in_the_page_is_an_error() -> None:
    with pytest.raises(ValueError, match="no table 'speed'"):
        tables.filled("<!-- study: speed --> <!-- end of study -->", [], SMALL)


def test_the_page_is_as_new_as_the_results() -> None:
    page = PAGE.read_text()
    made = tables.filled(page, read_results(Places().results, STUDY), STUDY)
    assert made == page, "docs/study.md is older than its results: python -m tests.benchmarks.study tables"
    assert all(f"<!-- study: {name} -->" in page for name in tables.TABLES)


def test_every_row_of_the_plan_has_data_and_a_name_of_its_own() -> None:
    names = [run.name for run in STUDY.runs()]
    assert len(set(names)) == len(names)
    assert {name for row in STUDY.rows for name in STUDY.data_of(row)} <= set(DATA)
    assert names[:4] == ["proposed-0", "no_labels-0", "paired_only-0", "no_group-0"]
