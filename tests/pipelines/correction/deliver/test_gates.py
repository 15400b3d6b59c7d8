import math
from dataclasses import replace
from pathlib import Path

import pytest

from model.detector.network import load_detector
from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.correction.deliver.gates import GateConfig, Rejection, parse_gates, read_gates, usual_scores
from tests.catalogs import DEFECTS, write_detector


@pytest.mark.parametrize(
    ("code", "passes", "rejected"),
    [
        ("nearly_constant", 2.01, 2.0),
        ("empty_product", 0.0021, 0.002),
        ("product_lost", 0.25, 0.26),
        ("product_holes", 0.06, 0.061),
        ("background_not_white", 0.02, 0.021),
        ("product_changed", 5.0, 5.1),
        ("weak_outline", 0.1, 0.11),
    ],
)
def test_a_gate_says_value_threshold_and_flag(code: str, passes: float, rejected: float) -> None:
    gates = GateConfig()
    gates.judge(code, passes, "the figure")
    with pytest.raises(Rejection) as caught:
        gates.judge(code, rejected, "the figure")
    assert caught.value.code == code
    assert caught.value.value == rejected
    for part in ("the figure is", f"{rejected:.3g}", f"{getattr(gates, code):g}", f"--gates: {code}"):
        assert part in caught.value.message
    replace(gates, **{code: None}).judge(code, rejected, "the figure")


def test_an_allowance_moves_the_threshold_and_is_told() -> None:
    GateConfig().judge("product_lost", 0.59, "the figure", 2.4)
    GateConfig().judge("product_lost", 1.0, "the figure", math.inf)
    with pytest.raises(Rejection) as caught:
        GateConfig().judge("product_lost", 0.11, "the figure", 0.4)
    assert caught.value.message.startswith("the figure is 0.11, above 0.1; a close-up")
    assert caught.value.message.endswith("by hand (--gates: product_lost)")


def test_what_nobody_judges_is_not_looked_for() -> None:
    gates = GateConfig(product_changed=None, product_lost=None, product_holes=None)
    assert gates.needs_losses
    assert gates.needs_product(background=True)
    assert not gates.needs_product(background=False)
    assert GateConfig().needs_product(background=False)
    assert not replace(gates, weak_outline=None).needs_product(background=True)


def test_a_defect_remains_from_its_own_score_on() -> None:
    gates = GateConfig(defect_remains={"watermark": 0.8})
    gates.judge_remaining("watermark", 0.79)
    gates.judge_remaining("wrong_angle", 1.0)
    GateConfig().judge_remaining("watermark", 1.0)
    with pytest.raises(Rejection, match="not below") as caught:
        gates.judge_remaining("watermark", 0.8)
    assert (caught.value.code, caught.value.value) == ("defect_remains", 0.8)
    assert "watermark" in caught.value.message


def test_a_file_changes_what_it_names() -> None:
    text = """
        version: 1
        product_changed: ~
        background_not_white: 0.1
        defect_remains: {watermark: 0.9, wrong_angle: ~}
        white_background: [non_white_background, watermark]
    """
    assert parse_gates(text, "file", DEFECTS) == GateConfig(
        product_changed=None,
        background_not_white=0.1,
        defect_remains={"watermark": 0.9},
        white_background=("non_white_background", "watermark"),
    )
    assert parse_gates("{version: 1, defect_remains: 0.6}", "file", DEFECTS).defect_remains == dict.fromkeys(
        DEFECTS, 0.6
    )
    none = parse_gates("{version: 1, defect_remains: ~, white_background: ~}", "file", DEFECTS)
    assert (none.defect_remains, none.white_background) == ({}, ())
    assert parse_gates("version: 1", "file", DEFECTS) == GateConfig()


def test_every_mistake_is_reported_at_once() -> None:
    text = "{version: 2, product_chnged: 1, empty_product: 2, defect_remains: {stain: 0.6}, white_background: [lint]}"
    with pytest.raises(ConfigurationError) as caught:
        parse_gates(text, "file", DEFECTS)
    message = str(caught.value)
    for part in (
        "version: must be 1",
        "did you mean 'product_changed'",
        "empty_product: must be at most 1",
        "'stain'",
        "'lint'",
    ):
        assert part in message
    # Below 0.5 a detector gives no label.
    with pytest.raises(ConfigurationError, match=r"watermark: must be at least 0\.5"):
        parse_gates("{version: 1, defect_remains: {watermark: 0.3}}", "file", DEFECTS)


def test_where_gates_come_from(tmp_path: Path) -> None:
    assert read_gates(None, DEFECTS) == GateConfig()
    assert read_gates("off", DEFECTS) is None
    with pytest.raises(ConfigurationError, match="--gates"):
        read_gates(str(tmp_path / "gone.yaml"), DEFECTS)
    (tmp_path / "gates.yaml").write_text("{version: 1, product_changed: 9}")
    assert read_gates(str(tmp_path / "gates.yaml"), DEFECTS) == GateConfig(product_changed=9)


def test_a_detector_is_asked_by_default_if_it_rarely_sees_defects_in_clean_images(tmp_path: Path) -> None:
    bundle = load_detector(write_detector(tmp_path, {"watermark": 0.0, "wrong_angle": 0.0, "crease": 0.0}))
    assert usual_scores(bundle, LabelMap.default()) == {}  # it has no figures of clean images
    scores = {"images": {"clean": {"images": 100, "given": [0.3, 0.04, 0.0]}}}
    with_scores = replace(bundle, config={**bundle.config, "scores": scores})
    assert usual_scores(with_scores, LabelMap.default()) == {"wrong_angle": 0.5}
