from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.bundle import load_bundle
from model.detector import (
    Calibration,
    Detector,
    DetectorConfig,
    load_backbone,
    load_detector,
    probabilities,
    save_detector,
    scores,
    transfer_detector,
)
from model.errors import BundleError, ConfigurationError
from tests.catalogs import write_bundle

LABELS = ("blur", "stain")


def detector(*labels: str, seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    return Detector(DetectorConfig(labels or LABELS)).eval()


def test_a_bundle_answers_as_the_detector_that_was_saved(tmp_path: Path) -> None:
    saved, calibrations = detector(), [Calibration(2.0, -1.0, 0.3), Calibration()]
    with torch.no_grad():  # statistics as after a training, not those of a fresh network
        saved.train()(torch.rand(8, 3, 32, 32))
        saved.eval()
    version = save_detector(tmp_path, saved, calibrations, 32, "card\n", {"scores": {}})
    bundle = load_detector(tmp_path)
    assert (bundle.version, bundle.labels, bundle.calibrations) == (version, LABELS, calibrations)
    assert (bundle.image_size, bundle.config["kind"]) == (32, "detector")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(bundle.detector(x), saved(x))


def test_what_is_no_whole_detector_bundle_is_refused(tmp_path: Path) -> None:
    save_detector(tmp_path / "a", detector(), [Calibration()] * 2, 32, "card\n", {})
    weights = tmp_path / "a" / "detector.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="does not match its hash"):
        load_detector(tmp_path / "a")
    weights.unlink()
    with pytest.raises(BundleError, match=r"detector\.safetensors.*jobs/train_detector\.py"):
        load_detector(tmp_path / "a")


def test_a_bundle_of_the_other_kind_is_told_for_what_it_is(tmp_path: Path) -> None:
    save_detector(tmp_path / "a", detector(), [Calibration()] * 2, 32, "card\n", {})
    with pytest.raises(BundleError, match=r"of a generator, as jobs/train\.py .* a detector is wanted here"):
        load_detector(write_bundle(tmp_path / "generator"))
    with pytest.raises(
        BundleError, match=r"of a detector, as jobs/train_detector\.py .* a generator is wanted here"
    ):
        load_bundle(tmp_path / "a")


@given(st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1))
def test_the_threshold_is_score_one_half_and_order_stays(threshold: float, low: float, high: float) -> None:
    one = [Calibration(threshold=threshold)]
    low, high = sorted((low, high))
    found = scores(torch.tensor([[low], [high], [threshold], [0.0], [1.0]], dtype=torch.float64), one).ravel()
    assert found[0] <= found[1] + 1e-12
    assert found[2:].tolist() == pytest.approx([0.5, 0, 1])
    assert (found[:2] >= 0.5).tolist() == [low >= threshold, high >= threshold]


def test_calibration_scales_each_label_for_itself() -> None:
    logits = torch.tensor([[1.0, 1.0]])
    found = probabilities(logits, [Calibration(scale=2, offset=-2), Calibration(scale=1, offset=-1)])
    assert found.tolist() == [[0.5, 0.5]]


def test_labels_keep_what_was_learned_for_their_names() -> None:
    old, new = detector("blur", "stain"), detector("crease", "stain", seed=1)
    assert transfer_detector(new, old.state_dict(), old.config.labels) == ["crease"]
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(new(x)[:, 1], old(x)[:, 1])


def test_weights_of_a_thousand_classes_start_the_backbone() -> None:
    many = detector(*(f"class {number}" for number in range(10)), seed=3)
    new = detector()
    load_backbone(new, many.backbone.state_dict())
    name = "backbone.features.0.0.weight"
    assert torch.equal(new.get_parameter(name), many.get_parameter(name))


def test_weights_of_another_backbone_are_refused() -> None:
    other = Detector(DetectorConfig(LABELS, "resnet18"))
    larger = Detector(DetectorConfig(LABELS, "mobilenet_v3_large"))  # its last layer has the same name
    for one in (other, larger):
        with pytest.raises(ConfigurationError, match="another backbone"):
            transfer_detector(detector(), one.state_dict(), LABELS)
    with pytest.raises(BundleError, match="do not fit backbone mobilenet_v3_small"):
        load_backbone(detector(), other.backbone.state_dict())


@pytest.mark.parametrize("labels", [(), ("a", "a"), ("",)])
def test_labels_are_names(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="labels"):
        DetectorConfig(labels)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(ConfigurationError, match="mobilenet_v3_small"):
        DetectorConfig(LABELS, "alexnet_v9")
