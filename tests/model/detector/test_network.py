from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model.bundle import load_bundle
from model.detector.network import (
    Calibration,
    Detector,
    DetectorConfig,
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


def test_a_loaded_bundle_answers_as_the_saved_detector(tmp_path: Path) -> None:
    saved, calibrations = detector().as_stored(), [Calibration(2.0, -1.0, 0.3), Calibration()]
    version = save_detector(tmp_path, saved, calibrations, 32, "card\n", {"scores": {}})
    bundle = load_detector(tmp_path)
    assert (bundle.version, bundle.labels, bundle.calibrations) == (version, LABELS, calibrations)
    assert (bundle.image_size, bundle.config["kind"]) == (32, "detector")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(bundle.detector(x), saved(x))


def test_an_incomplete_detector_bundle_is_refused(tmp_path: Path) -> None:
    save_detector(tmp_path / "a", detector(), [Calibration()] * 2, 32, "card\n", {})
    weights = tmp_path / "a" / "detector.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="does not match its hash"):
        load_detector(tmp_path / "a")
    weights.unlink()
    with pytest.raises(BundleError, match=r"detector\.safetensors.*jobs/train_detector\.py"):
        load_detector(tmp_path / "a")


def test_a_bundle_of_the_other_kind_is_refused_by_name(tmp_path: Path) -> None:
    save_detector(tmp_path / "a", detector(), [Calibration()] * 2, 32, "card\n", {})
    with pytest.raises(BundleError, match=r"of a generator, as jobs/train\.py .* a detector is needed here"):
        load_detector(write_bundle(tmp_path / "generator"))
    with pytest.raises(
        BundleError, match=r"of a detector, as jobs/train_detector\.py .* a generator is needed here"
    ):
        load_bundle(tmp_path / "a")


@given(st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1))
def test_the_threshold_is_score_one_half_and_order_stays(threshold: float, low: float, high: float) -> None:
    one = [Calibration(threshold=threshold)]
    low, high = sorted((low, high))
    values = scores(
        torch.tensor([[low], [high], [threshold], [0.0], [1.0]], dtype=torch.float64), one
    ).ravel()
    assert values[0] <= values[1] + 1e-12
    assert values[2:].tolist() == pytest.approx([0.5, 0, 1])
    assert (values[:2] >= 0.5).tolist() == [low >= threshold, high >= threshold]


def test_calibration_is_per_label() -> None:
    logits = torch.tensor([[1.0, 1.0]])
    calibrated = probabilities(logits, [Calibration(scale=2, offset=-2), Calibration(scale=1, offset=-1)])
    assert calibrated.tolist() == [[0.5, 0.5]]


def test_labels_keep_their_weights_by_name() -> None:
    old, new = detector("blur", "stain"), detector("crease", "stain", seed=1)
    assert transfer_detector(new, old.state_dict(), old.config.labels) == ["crease"]
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(new(x)[:, 1], old(x)[:, 1])


def test_weights_of_another_backbone_are_refused() -> None:
    other = Detector(DetectorConfig(LABELS, "resnet18"))
    with pytest.raises(BundleError, match="do not fit backbone tf_efficientnet_lite0"):
        transfer_detector(detector(), other.state_dict(), LABELS)


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "resnet18"])
def test_folded_norms_change_no_answer(backbone: str) -> None:
    torch.manual_seed(0)
    plain = Detector(DetectorConfig(LABELS, backbone)).eval()
    for layer in plain.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    folded = plain.for_inference()
    assert not [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm2d)]
    x = torch.rand(2, 3, 64, 96) * 2 - 1
    torch.testing.assert_close(folded(x), plain(x), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_layout_of_a_picture_matters() -> None:
    """Pooling over the whole picture would give an image and its transpose almost the same logits."""
    x = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    network = detector()
    assert not torch.allclose(network(x), network(x.transpose(2, 3).contiguous()), atol=1e-3)


def test_sides_that_cannot_be_halved_five_times_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="multiples of 32"):
        detector()(torch.zeros(1, 3, 48, 64))


@pytest.mark.parametrize("labels", [(), ("a", "a"), ("",)])
def test_labels_are_names(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="labels"):
        DetectorConfig(labels)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(ConfigurationError, match="backbone alexnet_v9: timm has none"):
        Detector(DetectorConfig(LABELS, "alexnet_v9"))
