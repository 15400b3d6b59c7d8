"""Tests of the study of the gates: its pictures and its counts."""

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.correction.deliver.gates import HOLES, LOST, NOT_WHITE, WEAK_OUTLINE
from pipelines.images.encode import encode_image
from tests.benchmarks.gate_study import (
    CLOSE_UP,
    PALE,
    PHOTO,
    Judged,
    Watched,
    close_up,
    half_of,
    pale_on_pale,
    print_verdicts,
    write,
)
from tests.benchmarks.starter_quality.samples import CLOTHING, Sample, on_white


def sample(image_id: str, goods: int, background: int) -> Sample:
    photo = np.full((200, 160, 3), background, np.uint8)
    mask = np.zeros((200, 160), np.uint8)
    mask[40:160, 20:140] = 255
    photo[mask > 0] = goods
    return Sample(image_id, CLOTHING, "coat", photo, mask, on_white(photo, mask))


def test_a_close_up_is_all_goods_and_small_goods_have_none() -> None:
    crop = close_up(sample("a", 60, 200))
    assert crop is not None
    assert min(crop.shape[:2]) > 100
    assert (crop == 60).all()
    small = sample("b", 60, 200)
    assert small.mask is not None
    small.mask[60:] = 0
    assert close_up(small) is None


def test_pale_goods_are_put_on_pale_backgrounds() -> None:
    made = pale_on_pale([sample("dark goods", 60, 230), sample("pale goods", 210, 40)])
    assert [one.image_id for one in made] == ["pale goods"]
    assert np.median(made[0].photo[:20]) > 150


def test_the_halves_are_about_as_large() -> None:
    judged = sum(half_of(f"photo-{number}") == "judged" for number in range(400))
    assert 160 < judged < 240


def test_watched_gates_note_and_do_not_reject() -> None:
    gates = Watched()
    gates.judge(LOST, 0.2, "the share", 0.4)
    gates.judge(HOLES, 0.01, "the share")
    assert gates.records == [(LOST, 0.2, pytest.approx(0.1), True), (HOLES, 0.01, 0.06, False)]


def picture(level: int) -> bytes:
    pixels: NDArray[np.uint8] = np.full((40, 40, 3), level, np.uint8)
    return encode_image(pixels)


def test_verdicts_are_counted_by_gate_and_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = {LOST: (0.9, True), WEAK_OUTLINE: (0.4, True)}
    grey = {LOST: (0.0, False), NOT_WHITE: (0.3, True)}
    good = {LOST: (0.0, False), NOT_WHITE: (0.0, False)}
    write(
        tmp_path,
        [
            Judged(CLOSE_UP, "a", "coat", picture(90), picture(200), lost),
            Judged(PHOTO, "b", "coat", picture(90), picture(200), grey),
            Judged(PHOTO, "c", "coat", picture(90), picture(200), good),
        ],
    )
    verdicts = tmp_path / "verdicts.csv"
    with verdicts.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with verdicts.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "publish": int(row["image_id"] == "b")} for row in rows)
    print_verdicts(tmp_path, verdicts)
    printed = capsys.readouterr().out
    assert "| `product_lost` | 1 | 1 | 1 | 1 | 0 | 0 |" in printed
    assert "| `background_not_white` | 1 | 0 | 1 | 0 | 1 | 0 |" in printed
    assert "accepted: 1, of which should not have been: 1" in printed
    assert f"{PHOTO}: 2; rejected 1, rightly 0; accepted 1, wrongly 1" in printed
    assert f"{PALE}: 0" in printed
    assert (tmp_path / "sheet-00.png").exists()
