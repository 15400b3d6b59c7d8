import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.collect import Collection, SetName
from pipelines.evaluation.measure import ANSWER, MEASURES, TARGET, TRAIN_TARGET, UPLOAD
from pipelines.evaluation.score import FLOOR, NOTHING, Groups, Score, Scores, mean_ci95, reductions, score
from pipelines.metrics.fid.distance import frechet_distance
from pipelines.metrics.fid.kid import kernel_inception_distance
from pipelines.metrics.fid.statistics import FeatureSet
from tests.evaluation_data import contestant, measure, measures

BUNDLES = (contestant("good"), contestant("bad"))


def collected(*tables: pa.Table) -> Collection:
    collection = Collection()
    for table in tables:
        collection.add(table)
    return collection


@pytest.fixture(scope="module")
def scores() -> Scores:
    """Two bundles: the first halves the distance of doing nothing, the second doubles it."""
    return score(collected(measures(bundles=(0.5, 2.0))), BUNDLES, ["watermark"])


def test_rows_are_nothing_done_each_bundle_and_the_floor_with_both_counts(scores: Scores) -> None:
    summary = [(row.name, row.n, row.n_reference) for row in scores.rows]
    assert summary == [(NOTHING, 40, 40), ("good", 40, 40), ("bad", 40, 40), (FLOOR, 50, 40)]


def test_figures_are_those_of_the_sets(scores: Scores) -> None:
    collection = collected(measures(bundles=(0.5, 2.0)))
    sets = [
        collection.set(SetName(kind, bundle, "watermark"))
        for kind, bundle in ((UPLOAD, -1), (ANSWER, 0), (ANSWER, 1), (TRAIN_TARGET, -1), (TARGET, -1))
    ]
    statistics = []
    for one in sets:
        statistics.append(FeatureSet(4))
        statistics[-1].add(one.features)
    for row, one, statistic in zip(scores.rows, sets, statistics, strict=False):
        row_values = row.to_json()
        assert row_values["fid"] == pytest.approx(frechet_distance(statistic, statistics[-1]), abs=1e-3)
        kid = kernel_inception_distance(one.features, sets[-1].features)  # type: ignore[arg-type]
        assert row_values["kid"] == pytest.approx(kid.mean, abs=1e-6)
        assert row_values["kid_ci95"] == pytest.approx(kid.ci95, abs=1e-6)
        assert row_values["fid_ci95"][0] < row_values["fid"] < row_values["fid_ci95"][1]
    nothing, good, _, floor = (row.to_json() for row in scores.rows)
    assert (nothing["psnr"], good["psnr"], good["l1"], good["n_pairs"]) == (29, 29.5, 0.05, 40)
    assert (floor["psnr"], floor["l1"], floor["n_pairs"]) == (None, None, 0)


def test_what_photos_share_narrows_the_interval_of_a_reduction(scores: Scores) -> None:
    """Answers are targets plus a constant: the ratio is nearly certain, although each FID is not."""
    (reduction,) = [one for one in scores.reductions if (one.name, one.against) == ("good", NOTHING)]
    assert reduction.reduction == pytest.approx(0.75, abs=0.02)
    low, high = reduction.ci95  # type: ignore[misc]
    assert low < reduction.reduction < high < low + 0.05
    assert [(one.name, one.against) for one in scores.reductions] == [
        *(("good", other) for other in (NOTHING, "bad")),
        *(("bad", other) for other in (NOTHING, "good")),
    ]


def fids(defect: str, name: str, value: float) -> Score:
    return Score(defect, name, 9, 9, fid=np.full(11, value))


def test_the_headline_gain_is_the_mean_of_each_defects_own_reduction_over_those_both_correct() -> None:
    """The mean of the reductions, not the reduction of the sums."""
    rows = [
        *(fids("a", name, value) for name, value in ((NOTHING, 100.0), ("one", 90.0), ("two", 45.0))),
        *(fids("b", name, value) for name, value in ((NOTHING, 50.0), ("one", 20.0), ("two", 10.0))),
        *(fids("c", name, value) for name, value in ((NOTHING, 80.0), ("one", 88.0))),
        Score("c", "two", 0, 9, ("unknown",)),
    ]
    by_pair = {(one.name, one.against): one for one in reductions(rows, ["one", "two"])}
    assert by_pair["one", NOTHING].reduction == pytest.approx((0.1 + 0.6 - 0.1) / 3)
    assert by_pair["two", NOTHING].reduction == pytest.approx((0.55 + 0.8) / 2)
    assert by_pair["two", NOTHING].by_defect == pytest.approx({"a": 0.55, "b": 0.8})
    assert by_pair["two", "one"].reduction == pytest.approx(0.5)
    assert by_pair["two", "one"].ci95 == pytest.approx((0.5, 0.5))


def test_no_reduction_of_a_distance_of_zero() -> None:
    assert reductions([fids("a", NOTHING, 0.0), fids("a", "one", 1.0)], ["one"]) == []


def test_a_defect_that_a_bundle_does_not_know_is_null_with_a_note() -> None:
    narrow = contestant("narrow", "wrong_angle")
    scored = score(collected(measures()), (contestant("wide"), narrow), ["watermark"])
    row = scored.rows[2].to_json()
    assert row["note"] == "the bundle does not know this defect (it knows wrong_angle)"
    assert row["n"] == 0
    assert {row[key] for key in ("fid", "fid_ci95", "kid", "psnr", "l1")} == {None}
    assert {one.name for one in scored.reductions} == {"wide"}


def test_without_weights_there_are_pairs_only() -> None:
    rows = [{**row, "features": None} for row in measures().to_pylist()]
    scored = score(collected(pa.Table.from_pylist(rows, MEASURES)), BUNDLES[:1], ["watermark"])
    assert [row.to_json()["fid"] for row in scored.rows] == [None] * 3
    assert scored.rows[1].psnr == pytest.approx(29.5)
    assert scored.reductions == []


def test_every_replicate_leaves_out_as_many_of_a_defects_photos() -> None:
    """FID's bias depends on the number of images: with groups of unequal size it would look like chance."""
    rows = measures(photos=47).to_pylist()
    rows += [
        {**row, "defect": "wrong_angle", "image_id": f"q{row['image_id']}"}
        for row in measures(photos=25, train=33).to_pylist()
    ]
    rng = np.random.default_rng(0)  # more dimensions than photos, so that a factor has a row per image
    rows = [{**row, "features": rng.standard_normal(64).astype(np.float32).tobytes()} for row in rows]
    collection = collected(pa.Table.from_pylist(rows, MEASURES))
    groups = Groups(collection)
    for defect in ("watermark", "wrong_angle"):
        for kind, bundle in ((UPLOAD, -1), (ANSWER, 0), (TARGET, -1), (TRAIN_TARGET, -1)):
            images = collection.set(SetName(kind, bundle, defect))
            whole, *rest = [len(one.factor) for one in groups.left_out(images, kind)]  # type: ignore[union-attr]
            assert whole == len(images.photos)
            assert len(rest) == 10
            assert max(rest) - min(rest) <= 1


@pytest.mark.parametrize("train", [1, 2, 9])
def test_a_small_training_split_takes_the_floors_interval_and_no_others(train: int, scores: Scores) -> None:
    scored = score(collected(measures(bundles=(0.5, 2.0), train=train)), BUNDLES, ["watermark"])
    for row, same in zip(scored.rows[:3], scores.rows[:3], strict=True):
        assert row.to_json() == same.to_json()
    floor = scored.rows[3].to_json()
    assert (floor["fid"] is None) == (train == 1)
    assert floor["fid_ci95"] is None


@pytest.mark.parametrize("photos", [1, 2, 3])
def test_few_photos_give_fewer_figures_and_no_crash(photos: int) -> None:
    scored = score(collected(measures(photos=photos, train=4)), BUNDLES[:1], ["watermark"])
    row = scored.rows[1].to_json()
    assert (row["fid"] is None) == (photos == 1)
    assert (row["fid_ci95"] is None) == (photos < 3)
    assert ("no FID or KID" in row["note"]) == (photos == 1)
    json.dumps([one.to_json() for one in scored.rows], allow_nan=False)


def test_missing_images_and_targets_are_noted() -> None:
    lost = [
        measure(900, ANSWER, bundle=0, problem="not finite"),
        measure(901, UPLOAD, problem="truncated"),
        measure(902, UPLOAD, problem="truncated"),
    ]
    scored = score(collected(measures(), pa.Table.from_pylist(lost, MEASURES)), BUNDLES[:1], ["watermark"])
    assert "2 left out (truncated)" in scored.rows[0].notes
    assert "1 left out (not finite)" in scored.rows[1].notes
    only_uploads = collected(pa.Table.from_pylist([measure(1, UPLOAD, [1.0] * 4)], MEASURES))
    (nothing, *_) = score(only_uploads, (), ["watermark"]).rows
    assert "0 targets: no FID or KID" in nothing.notes


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=30))
def test_a_means_interval_is_students(values: list[float]) -> None:
    low, high = mean_ci95(np.array(values))  # type: ignore[misc]
    assert (low + high) / 2 == pytest.approx(np.mean(values), abs=1e-9)
    assert high - low >= 2 * 1.9599 * np.std(values, ddof=1) / np.sqrt(len(values)) - 1e-9


def test_a_single_value_has_no_interval() -> None:
    assert mean_ci95(np.array([1.0])) is None
