"""Tests of the benchmark's own measures, on pictures with known figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.images.encode import encode_image
from tests.benchmarks.starter_quality.baselines import axis_degrees, line_degrees, navier_stokes, telea
from tests.benchmarks.starter_quality.cases import (
    ANGLE,
    BACKGROUND,
    CLEAN,
    MARK_ON_WHITE,
    Case,
    make_cases,
    turn,
)
from tests.benchmarks.starter_quality.corrected import Published
from tests.benchmarks.starter_quality.marks import add_foreign_mark, faces
from tests.benchmarks.starter_quality.measures import (
    degrees_between,
    kept_iou,
    kept_region,
    psnr_inside,
    touched,
)
from tests.benchmarks.starter_quality.samples import CLOTHING, Sample, on_white
from tests.benchmarks.starter_quality.scores import score, summary
from tests.benchmarks.starter_quality.tables import table

HEIGHT, WIDTH = 160, 120


def coat() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a photo of a coat with one sleeve and a button on a wooden background, and its mask."""
    rng = np.random.default_rng(3)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[35:125, 42:78] = 255
    mask[40:60, 22:42] = 255
    photo = np.full((HEIGHT, WIDTH, 3), (150, 120, 80), np.uint8)
    photo[mask > 0] = (40, 60, 120)
    photo[48:56, 56:64] = (220, 200, 40)
    noise = rng.integers(-6, 7, photo.shape)
    return np.clip(photo.astype(int) + noise, 0, 255).astype(np.uint8), mask


def sample() -> Sample:
    photo, mask = coat()
    return Sample("coat-1", CLOTHING, "coat", photo, mask, on_white(photo, mask))


def test_the_perfect_composite_keeps_the_product_and_nothing_else() -> None:
    photo, mask = coat()
    assert kept_iou(photo, on_white(photo, mask), mask > 127) == 1.0


@pytest.mark.parametrize("matte", [0.0, 0.3, 0.45, 0.55, 0.8, 1.0])
def test_a_blend_is_kept_where_its_matte_is_below_a_half(matte: float) -> None:
    photo, mask = coat()
    share = np.full(mask.shape, round((1 - matte) * 255), np.uint8)
    kept = kept_region(photo, on_white(photo, share), mask > 127)
    assert kept.mean() == (1.0 if matte < 0.5 else 0.0)


def test_lost_product_and_remaining_background_both_count() -> None:
    photo, mask = coat()
    half = mask.copy()
    half[80:] = 0
    lost = kept_iou(photo, on_white(photo, half), mask > 127)
    assert lost == pytest.approx((half > 127).sum() / (mask > 127).sum())
    more = mask.copy()
    more[130:150, 40:80] = 255
    left = kept_iou(photo, on_white(photo, more), mask > 127)
    assert left == pytest.approx((mask > 127).sum() / (more > 127).sum())


def test_white_goods_count_neither_for_nor_against() -> None:
    photo, mask = coat()
    photo[mask > 0] = 252
    white = np.full_like(photo, 255)
    assert kept_iou(photo, white, mask > 127) == 1.0


@pytest.mark.parametrize("degrees", [-40, -23, -8, 0, 5, 31])
def test_a_known_turn_is_measured(degrees: int) -> None:
    photo, mask = coat()
    white = on_white(photo, mask)
    turned = turn(white, mask > 127, float(degrees))
    assert degrees_between(turned, white) == pytest.approx(degrees, abs=1.0)


def test_turns_are_measured_at_another_size_and_position() -> None:
    photo, mask = coat()
    white = on_white(photo, mask)
    turned = turn(white, mask > 127, 17.0)
    larger = np.full((300, 260, 3), 255, np.uint8)
    larger[90 : 90 + HEIGHT, 120 : 120 + WIDTH] = turned
    assert degrees_between(larger, white) == pytest.approx(17.0, abs=1.0)
    assert degrees_between(np.full_like(white, 255), white) == 0.0


@pytest.mark.parametrize("degrees", [-20.0, 12.0])
def test_deskewing_measures_the_turn_of_a_long_box(degrees: float) -> None:
    photo = np.full((200, 200, 3), 255, np.uint8)
    photo[40:160, 80:120] = (30, 60, 90)
    turned = turn(photo, (photo < 200).all(axis=2), degrees)
    assert axis_degrees(turned) == pytest.approx(degrees, abs=1.0)
    assert line_degrees(turned) == pytest.approx(degrees, abs=1.5)


@given(st.integers(0, 40), st.floats(0, 1))
def test_touched_is_the_share_of_pixels_beyond_eight_levels(levels: int, share: float) -> None:
    before = np.full((50, 40, 3), 100, np.uint8)
    after = before.copy()
    rows = round(share * 50)
    after[:rows, :, 1] += levels
    region = np.ones((50, 40), bool)
    assert touched(before, after, region) == pytest.approx(rows / 50 if levels > 8 else 0.0)


def test_decibels_are_of_the_region_alone() -> None:
    before = np.zeros((20, 20, 3), np.uint8)
    after = before.copy()
    after[:10] = 10
    top = np.zeros((20, 20), bool)
    top[:10] = True
    assert psnr_inside(before, after, top) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr_inside(before, after, ~top) == 99.0


def test_marks_are_functions_of_the_seed_and_can_be_seen() -> None:
    photo, _ = coat()
    marked = [add_foreign_mark(photo, faces(), np.random.default_rng(seed)) for seed in range(12)]
    again = add_foreign_mark(photo, faces(), np.random.default_rng(5))
    assert np.array_equal(again, marked[5])
    for picture in marked:
        changed = np.abs(picture.astype(int) - photo).max(axis=2) > 2
        assert 0.003 < changed.mean() < 0.6


def test_inpainting_changes_only_the_area_under_the_mark() -> None:
    case = next(case for case in make_cases([sample()], faces(), 1) if case.task == MARK_ON_WHITE)
    assert case.region is not None
    for method in (telea, navier_stokes):
        result = method(case)
        assert np.array_equal(result[~case.region], case.pixels[~case.region])
        assert not np.array_equal(result[case.region], case.pixels[case.region])


def made() -> dict[str, Case]:
    return {case.task: case for case in make_cases([sample()], faces(), 1)}


def test_the_perfect_correction_has_the_best_figures() -> None:
    for case in made().values():
        assert case.target is not None
        scored = score(case, Published("corrected", None, None, encode_image(case.target, "png")))
        figures = summary([scored])
        assert (figures["n"], figures["rejected"], figures["measured"]) == (1, 0.0, 1)
        if case.task == BACKGROUND:
            assert (figures["iou_mean"], figures["iou_poor"], figures["psnr"]) == (1.0, 0.0, 99.0)
        elif case.task == ANGLE:
            assert figures["left_median"] == 0.0
        elif case.task in CLEAN:
            assert (figures["touched_mean"], figures["change"]) == (0.0, 0.0)
        else:
            assert figures["after"] == 99.0
            assert figures["gain"] == pytest.approx(99 - figures["before"])


def test_rejected_corrections_count_as_such_and_clean_originals_as_unchanged() -> None:
    cases = made()
    rejected = Published("rejected", "product_lost", "…", None)
    background = summary([score(cases[BACKGROUND], rejected)])
    assert background == {"n": 1, "rejected": 1.0, "gates": {"product_lost": 1}, "measured": 0}
    clean = summary([score(cases[CLEAN[0]], rejected)])
    assert (clean["rejected"], clean["measured"], clean["touched_mean"]) == (1.0, 1, 0.0)


def test_the_table_has_a_column_each_and_a_line_per_figure() -> None:
    one = {"n": 3, "rejected": 1 / 3, "gates": {"product_lost": 1}, "measured": 2, "iou_mean": 0.95}
    text = table(
        {"old": {BACKGROUND: {CLOTHING: one}}, "new": {BACKGROUND: {CLOTHING: {**one, "iou_mean": 0.97}}}}
    )
    assert "|  | old | new |" in text
    assert "| IoU of what is kept, mean | 0.950 | 0.970 |" in text
    assert "| rejected by a gate | 33% | 33% |" in text
    assert "PSNR" not in text
