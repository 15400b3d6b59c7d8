import csv
import io
import json

import pytest

from pipelines.evaluation.collect import Collection
from pipelines.evaluation.score import Scores, score
from pipelines.evaluation.table import COLUMNS, to_csv, to_json, to_markdown
from tests.evaluation_data import contestant, measures

BUNDLES = (contestant("mine"), contestant("a|b", "wrong_angle"))
ROWS = {"watermark": {"test": 40, "test_pairs": 40, "train": 50}}


@pytest.fixture(scope="module")
def scores() -> Scores:
    collection = Collection()
    collection.add(measures())
    return score(collection, BUNDLES, ["watermark"])


def test_json_and_csv_hold_the_same_rows(scores: Scores) -> None:
    document = json.loads(to_json(scores, BUNDLES, ROWS, {"samples": 7, "features": {"x": 1}}))
    lines = list(csv.DictReader(io.StringIO(to_csv(scores), newline="")))
    assert tuple(lines[0]) == COLUMNS
    for line, row in zip(lines, document["rows"], strict=True):
        assert (line["defect"], line["name"], line["note"]) == (row["defect"], row["name"], row["note"])
        for key in ("n", "n_reference", "fid", "kid", "kid_sd", "psnr", "l1"):
            assert line[key] == ("" if row[key] is None else str(row[key]))
        if row["fid_ci95"]:
            assert [float(line[f"fid_ci95_{end}"]) for end in ("low", "high")] == row["fid_ci95"]
    assert [one["name"] for one in document["bundles"]] == ["mine", "a|b"]
    assert (document["samples"], document["data_rows"]) == (7, ROWS)
    assert document["reductions"][0]["against"] == "do nothing"


def test_the_page_has_counts_intervals_dashes_notes_and_the_picture(scores: Scores) -> None:
    page = to_markdown(scores, BUNDLES, None, ["watermark"])
    lines = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    row = scores.rows[1].to_json()
    assert "40 / 40" in lines["mine"]
    assert f"{row['fid']:.2f} ({row['fid_ci95'][0]:.2f} to {row['fid_ci95'][1]:.2f})" in lines["mine"]
    assert "50 / 40" in lines["train targets (floor)"]
    unknown = [line for line in page.splitlines() if line.startswith("| a\\|b") and "0 / 40" in line]
    assert unknown[0].count("–") == 5
    assert "a\\|b: the bundle does not know this defect (it knows wrong_angle)" in page
    assert "![watermark](grids/watermark.png)" in page
    reduction = scores.reductions[0].to_json()
    assert f"{reduction['relative_reduction']:.1%} (" in page
    assert "**fid_ci95**" in page
    table = [line for line in page.split("## watermark")[1].splitlines() if line.startswith("|")]
    assert len({len(line) for line in table}) == 1  # columns line up as plain text, too


def test_equal_notes_are_said_once(scores: Scores) -> None:
    page = to_markdown(scores, BUNDLES, None, [])
    assert page.count("FID is biased upward (40 images") == 1
    assert "grids/" not in page


def test_without_fid_the_page_says_why_in_one_line(scores: Scores) -> None:
    page = to_markdown(scores, BUNDLES, "No FID and KID: there are no weights.", [])
    assert page.count("No FID and KID: there are no weights.") == 1
    assert "mean relative reduction of FID" not in page
