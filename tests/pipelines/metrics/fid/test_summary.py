import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.metrics.fid.distance import frechet_distance
from pipelines.metrics.fid.kid import kernel_inception_distance
from pipelines.metrics.fid.statistics import FeatureSet, Moments
from pipelines.metrics.fid.summary import COLUMNS, fid_csv, fid_row, fid_summary, mean_relative_reduction

DIMENSION = 8
OFFICIAL = {"official_weights": True, "dimension": DIMENSION}
KEYS = ["n", "n_reference", "fid_before", "fid_after", "kid_before", "kid_after", "kid_after_ci95", "note"]
FIGURES = KEYS[2:7]


def collect(n: int, shift: float = 0.0, cap: int = 100, seed: int = 0) -> FeatureSet:
    statistics = FeatureSet(DIMENSION, cap)
    statistics.add(np.random.default_rng([seed, n]).random((n, DIMENSION)) + shift)
    return statistics


BEFORE, AFTER, REFERENCE = collect(20, 1.0, seed=1), collect(20, 0.2, seed=2), collect(30)


def test_a_row_holds_the_distances_to_the_reference() -> None:
    row = fid_row(BEFORE, AFTER, REFERENCE)
    assert list(row) == KEYS
    assert (row["n"], row["n_reference"], row["note"]) == (20, 30, "")
    assert row["fid_before"] == pytest.approx(frechet_distance(BEFORE, REFERENCE), abs=1e-4)
    assert row["fid_after"] == pytest.approx(frechet_distance(AFTER, REFERENCE), abs=1e-4)
    expected = kernel_inception_distance(AFTER.features, REFERENCE.features)
    assert row["kid_before"] > row["kid_after"]
    assert row["kid_after"] == pytest.approx(expected.mean, abs=1e-7)
    assert row["kid_after_ci95"] == pytest.approx(expected.ci95, abs=1e-7)


@pytest.mark.parametrize(
    ("n", "reference", "named"), [(5, 30, "n"), (20, 6, "n_reference"), (7, 5, "n and n_reference")]
)
def test_fewer_images_than_dimensions_are_noted_to_bias_fid(n: int, reference: int, named: str) -> None:
    row = fid_row(collect(n), collect(n), collect(reference))
    assert f"biased upward: {named} below the 8 feature dimensions" in row["note"]
    assert None not in row.values()


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_give_nulls_and_a_note(n: int) -> None:
    row = fid_row(collect(n), collect(n), REFERENCE)
    assert [row[key] for key in FIGURES] == [None] * 5
    assert (row["n"], row["n_reference"]) == (n, 30)
    assert "fewer than 2 images" in row["note"]


@pytest.mark.parametrize("reference", [None, collect(0), collect(1)])
def test_without_reference_images_there_are_nulls_and_a_note(reference: FeatureSet | None) -> None:
    row = fid_row(BEFORE, AFTER, reference)
    assert [row[key] for key in FIGURES] == [None] * 5
    assert row["n_reference"] == (reference.n if reference else 0)
    assert "fewer than 2 reference images" in row["note"]


def test_two_images_are_enough_for_figures_but_not_for_an_interval() -> None:
    row = fid_row(collect(2), collect(2), REFERENCE)
    assert row["kid_after_ci95"] is None
    assert row["fid_after"] is not None
    assert row["kid_after"] is not None


def test_npz_statistics_give_fid_without_kid() -> None:
    features = REFERENCE.features
    reference = Moments(features.mean(0, dtype=np.float64), np.cov(features, rowvar=False))
    row, full = fid_row(BEFORE, AFTER, reference), fid_row(BEFORE, AFTER, REFERENCE)
    assert (row["fid_before"], row["fid_after"]) == (full["fid_before"], full["fid_after"])
    assert [row[key] for key in ("n_reference", "kid_before", "kid_after", "kid_after_ci95")] == [None] * 4
    assert ".npz" in row["note"]
    assert "no KID" in row["note"]


def test_unequal_sets_sampled_sets_and_the_callers_caveats_are_noted() -> None:
    row = fid_row(
        collect(25, cap=15), collect(20, cap=15), REFERENCE, caveats=["3 uploads could not be read"]
    )
    assert row["note"] == (
        "3 uploads could not be read; 25 images before and 20 after; "
        "FID and KID from samples of 15 images of sets of up to 25"
    )
    assert row["n"] == 15


def test_the_summary_is_json_of_the_agreed_form_and_notes_unofficial_weights() -> None:
    rows = {
        "watermark": fid_row(BEFORE, AFTER, REFERENCE),
        "angle": fid_row(collect(0), collect(0), None, ["first"]),
    }
    official = json.loads(json.dumps(fid_summary(rows, OFFICIAL), allow_nan=False))
    assert list(official) == ["defects", "features"]
    assert official["features"] == OFFICIAL
    assert list(official["defects"]) == ["angle", "watermark"]
    assert official["defects"]["watermark"] == rows["watermark"]
    unofficial = fid_summary(rows, {"official_weights": False})["defects"]
    assert unofficial["watermark"]["note"].startswith("not the official Inception weights")
    assert unofficial["angle"]["note"].startswith("first; ")
    assert "not the official" in unofficial["angle"]["note"]
    assert rows["watermark"]["note"] == ""  # the given rows are not changed


def test_the_csv_holds_the_same_table() -> None:
    rows = {
        "watermark": fid_row(BEFORE, AFTER, REFERENCE, ["a, b", 'quoted "c"']),
        "angle": fid_row(AFTER, AFTER, None),
    }
    text = fid_csv(fid_summary(rows, OFFICIAL))
    angle, watermark = csv.DictReader(io.StringIO(text, newline=""))
    assert tuple(watermark) == COLUMNS
    assert (angle["defect"], angle["fid_after"], angle["kid_after_ci95_low"]) == ("angle", "", "")
    assert float(watermark["fid_before"]) == rows["watermark"]["fid_before"]
    low, high = rows["watermark"]["kid_after_ci95"]
    assert (float(watermark["kid_after_ci95_low"]), float(watermark["kid_after_ci95_high"])) == (low, high)
    assert watermark["note"] == 'a, b; quoted "c"'


def test_the_headline_gain_is_the_mean_of_the_tasks_own_reductions() -> None:
    """It is not the reduction of the sums, in which tasks with a high distance outweigh the others (property 26)."""
    baseline = {"maps": 100.0, "shoes": 50.0, "horses": 80.0}
    improved = {"shoes": 20.0, "maps": 90.0, "horses": 88.0}
    assert mean_relative_reduction(baseline, improved) == pytest.approx((0.1 + 0.6 - 0.1) / 3)


@given(st.dictionaries(st.text(max_size=3), st.floats(0.1, 1e3), min_size=1), st.floats(0, 2))
def test_an_equal_share_everywhere_is_the_mean_reduction(baseline: dict[str, float], factor: float) -> None:
    improved = {task: factor * value for task, value in baseline.items()}
    assert mean_relative_reduction(baseline, improved) == pytest.approx(1 - factor, abs=1e-9)


@pytest.mark.parametrize(
    ("baseline", "improved"), [({}, {}), ({"a": 1.0}, {"b": 1.0}), ({"a": 0.0}, {"a": 1.0})]
)
def test_an_undefined_reduction_is_refused(baseline: dict[str, float], improved: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"same defects|positive baseline"):
        mean_relative_reduction(baseline, improved)
