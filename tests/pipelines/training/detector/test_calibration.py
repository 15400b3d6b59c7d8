import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import expit

from model.detector.network import Calibration
from pipelines.training.detector.calibration import (
    at_bound,
    average_precision,
    calibrate,
    calibration_error,
    given_shares,
    label_scores,
    platt,
    threshold,
)

samples = st.lists(st.tuples(st.integers(-40, 40), st.booleans()), min_size=2, max_size=60)


def arrays(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    logits = np.array([number / 4 for number, _ in pairs], np.float64)
    present = np.array([flag for _, flag in pairs])
    assume(present.any() and not present.all())
    return logits, present


@given(samples)
def test_average_precision_is_the_area_under_precision_and_recall(pairs: list[tuple[int, bool]]) -> None:
    logits, present = arrays(pairs)
    expected, recall = 0.0, 0.0
    for limit in sorted(set(logits), reverse=True):
        given = logits >= limit
        gained = (given & present).sum() / present.sum()
        expected += (gained - recall) * (given & present).sum() / given.sum()
        recall = gained
    assert average_precision(logits, present) == pytest.approx(expected)


def test_average_precision_of_perfect_and_of_reversed_scores() -> None:
    present = np.array([True, True, False, False])
    assert average_precision(np.array([4.0, 3, 2, 1]), present) == 1
    assert average_precision(np.array([1.0, 1, 1, 1]), present) == 0.5
    assert average_precision(np.array([1.0]), np.array([False])) is None


@given(samples, st.floats(0, 1))
def test_a_threshold_has_the_precision_if_any_has(pairs: list[tuple[int, bool]], wanted: float) -> None:
    logits, present = arrays(pairs)
    probability = expit(logits / 4)
    chosen = threshold(probability, present, wanted)

    def quality(limit: float) -> tuple[float, float]:
        given = probability >= limit
        right = (given & present).sum()
        return right / given.sum(), 2 * right / (given.sum() + present.sum())

    precise, f1 = quality(chosen)
    others = [quality(limit) for limit in set(probability)]
    assert precise >= min(wanted, max(one for one, _ in others)) - 1e-12
    assert f1 >= max(value for one, value in others if one >= min(wanted, max(p for p, _ in others))) - 1e-12


@given(samples)
def test_calibration_is_finite_and_keeps_the_order(pairs: list[tuple[int, bool]]) -> None:
    logits, present = arrays(pairs)
    one = calibrate(logits, present, 0.8)
    assert one.scale > 0
    assert np.isfinite([one.scale, one.offset]).all()
    assert 0 < one.threshold < 1


def test_platt_finds_the_scale_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20_000)
    present = rng.random(20_000) < expit(0.5 * logits - 1)
    scale, offset = platt(logits, present)
    assert (scale, offset) == (pytest.approx(0.5, abs=0.05), pytest.approx(-1, abs=0.05))
    before, after = (calibration_error(expit(z), present) for z in (logits, scale * logits + offset))
    assert after < 0.02 < before


def test_positives_alone_give_the_default_calibration() -> None:
    assert calibrate(np.array([1.0, 2.0]), np.array([True, True]), 0.8) == Calibration()
    assert calibrate(np.array([]), np.array([], bool), 0.8) == Calibration()


def test_scores_of_a_label() -> None:
    scores = label_scores(
        np.array([3.0, 1.0, -1.0, -3.0]), np.array([True, False, True, False]), Calibration()
    )
    assert scores == {
        "images": 4,
        "positives": 2,
        "average_precision": pytest.approx(0.8333, abs=1e-4),
        "precision": 0.5,
        "recall": 0.5,
        "calibration_error": pytest.approx(0.3893, abs=1e-3),
    }
    nothing = label_scores(np.array([]), np.array([], bool), Calibration())
    assert (nothing["precision"], nothing["recall"], nothing["average_precision"]) == (None, None, None)


def test_shares_by_kind_of_image() -> None:
    logits = np.array([[9.0, -9], [9, 9], [-9, -9]])
    assert given_shares(logits, ["photo", "photo", "clean"], [Calibration()] * 2) == {
        "clean": {"images": 1, "given": [0, 0]},
        "photo": {"images": 2, "given": [1, 0.5]},
    }


def test_a_label_that_was_not_learned_has_its_scale_at_the_bound() -> None:
    rng = np.random.default_rng(0)
    present = np.arange(400) % 2 == 0
    learned, wrong = np.where(present, 2.0, -2.0) + rng.normal(0, 1.5, 400), np.where(present, -1.0, 1.0)
    assert not at_bound(calibrate(learned, present, 0.8))
    assert at_bound(calibrate(wrong, present, 0.8))
    assert not at_bound(Calibration())
