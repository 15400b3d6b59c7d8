"""Figures on the validation part, and what the best step is chosen by."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.bundle import load_bundle
from model.layers import ImageGenerator
from pipelines.metrics.fid.weights import FidWeightsMissing
from pipelines.shards.index import build_index
from pipelines.training.best import read_best
from pipelines.training.generator import distances, validation
from pipelines.training.generator.job import train_in_process
from pipelines.training.generator.plan import Plan
from pipelines.training.generator.validation import (
    LEAST_FOR_FID,
    Validator,
    forecast,
    log_forecast,
    score,
)
from tests.pipelines.training.builders import SMALL, plan_of, settings


class Identity(ImageGenerator):
    """Returns its input."""

    def __init__(self) -> None:
        super().__init__(SMALL.generator)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor, group: torch.Tensor, type_: torch.Tensor) -> torch.Tensor:
        return image


def test_a_generator_that_does_nothing_scores_what_the_validation_part_says(
    source, tmp_path: Path, quick_features: None
) -> None:
    plan = plan_of(source, tmp_path, validation_images=3)
    found = {
        one["defect"]: one for one in Validator(plan.settings, source, plan.index).measure(7, Identity())
    }
    assert set(found) == set(source.label_map.defects)
    for one in found.values():
        assert (one["step"], one["n"], one["n_reference"]) == (7, 3, 3)
        assert one["fid"] >= 0
    # A product on its head is drawn with the same colours, so that only L1 sees it.
    assert found["wrong_angle"]["fid"] < 1e-6 < found["non_white_background"]["fid"]
    assert found["wrong_angle"]["l1"] > 0.1
    assert found["watermark"]["psnr"] > found["non_white_background"]["psnr"]


def test_without_weights_there_are_l1_and_psnr(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(path: object) -> Path:
        raise FidWeightsMissing("none")

    monkeypatch.setattr(distances, "locate_weights", missing)
    plan = plan_of(source, tmp_path)
    found = Validator(plan.settings, source, plan.index).measure(1, Identity())
    assert all("fid" not in one and one["l1"] > 0 for one in found)
    assert score(found) == ("l1", pytest.approx(np.mean([one["l1"] for one in found])))


def found(n: int = LEAST_FOR_FID, n_reference: int = LEAST_FOR_FID, **figures: float) -> dict:
    return {"n": n, "n_reference": n_reference, **figures}


ALL = {"fid": 9.0, "kid": 0.5, "l1": 0.1}


@pytest.mark.parametrize(
    ("measured", "chosen"),
    [
        ([found(**ALL), found(**ALL)], ("fid", 9.0)),
        # One defect with too few photos on a side: L1 speaks for both.
        ([found(**ALL), found(n=LEAST_FOR_FID - 1, fid=1, kid=0.1, l1=0.3)], ("l1", 0.2)),
        ([found(n_reference=LEAST_FOR_FID - 1, **ALL)], ("l1", 0.1)),
        # Unpaired photos have no L1, and KID is not biased by their number.
        ([found(n=9, fid=9, kid=0.5), found(n=9, **ALL)], ("kid", 0.5)),
        ([found(l1=0.1), found(l1=0.3)], ("l1", 0.2)),
        # None that all have: the one of the most, FID first.
        ([found(l1=0.1), found(fid=7, kid=0.2)], ("fid", 7)),
        ([found()], None),
        ([], None),
    ],
)
def test_the_best_is_chosen_by_what_most_defects_have(measured: list[dict], chosen: tuple | None) -> None:
    assert score(measured) == (chosen and (chosen[0], pytest.approx(chosen[1])))


def test_what_the_best_is_chosen_by_is_known_before_the_first_step(
    source, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "train")

    def told(has_weights: bool = True, **changes) -> tuple[str | None, str]:
        caplog.clear()
        plan = plan_of(source, tmp_path, **{"validate_every": 2, **changes})
        expected = forecast(plan.index, source.label_map, plan.settings, has_weights)
        log_forecast(expected, plan.settings, has_weights)
        assert expected["images"]["watermark"] == {"sources": 4, "targets": 4, "pairs": 4}
        return expected["chosen_by"], caplog.text

    chosen, text = told()
    assert chosen == "l1"
    assert "the best bundle is chosen by L1 on photos held back by --validation-share 0.25" in text
    assert "FID needs 50 validation photos" in text
    assert "watermark (4)" in text
    chosen, text = told(has_weights=False)
    assert (chosen, "FID" in text) == ("l1", False)
    assert told(validate_every=0) == (None, "")
    monkeypatch.setattr(validation, "LEAST_FOR_FID", 4)
    chosen, text = told()
    assert chosen == "fid"
    assert "FID needs" not in text


def test_a_part_without_photos_is_told_and_the_training_goes_on(
    source, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = build_index(source.shards, source.label_map, 0)
    plan = Plan(settings(tmp_path, validation_share=0, validate_every=2, steps=2), source, index, "train")
    expected = forecast(index, source.label_map, plan.settings, True)
    log_forecast(expected, plan.settings, True)
    assert expected["chosen_by"] is None
    assert "--validation-share 0 holds back no photo that could be measured" in caplog.text
    train_in_process(plan, lambda: None)
    assert load_bundle(tmp_path / "bundle").config["scores"] == {}
    assert read_best(str(tmp_path)) is None
    assert not (tmp_path / "samples").exists()
