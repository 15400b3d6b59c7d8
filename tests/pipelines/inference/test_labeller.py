from pathlib import Path

import numpy as np
import pytest
import torch

from model.detector.network import Calibration, Detector, DetectorBundle, DetectorConfig, load_detector
from model.errors import BundleError
from pipelines.images.decode import DecodeLimits, ImageError
from pipelines.inference.labeller import Labeller, load_labeller, read_input
from tests.catalogs import picture, write_detector
from tests.hostile_images import encode, hostile_images

CPU = torch.device("cpu")


def test_labels_are_those_above_their_threshold(tmp_path: Path) -> None:
    folder = write_detector(tmp_path, {"blur": 3.0, "stain": 0.0, "crease": -3.0})
    [labels] = Labeller(load_detector(folder), CPU, 4)([np.zeros((32, 32, 3), np.uint8)])
    assert [label for label, _ in labels] == ["blur", "stain"]
    assert dict(labels) == {
        "blur": pytest.approx(torch.sigmoid(torch.tensor(3.0)).item(), abs=1e-4),
        "stain": 0.5,
    }


def test_a_score_just_below_its_threshold_gives_no_label(tmp_path: Path) -> None:
    folder = write_detector(tmp_path, {"blur": -1e-5})  # score 0.4999975
    assert Labeller(load_detector(folder), CPU, 1)([np.zeros((32, 32, 3), np.uint8)]) == [[]]


def test_an_image_s_labels_do_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(2)
    detector = Detector(DetectorConfig(("a", "b"))).eval()
    bundle = DetectorBundle(detector, [Calibration(threshold=1e-4)] * 2, 32, {}, "")
    labeller = Labeller(bundle, CPU, 4)
    images = [read_input(encode(picture(seed)), 32, DecodeLimits()) for seed in range(4)]
    together = labeller(images)
    assert [labeller([image])[0] for image in images] == together
    assert labeller(images[::-1]) == together[::-1]


def test_a_bundle_that_changed_is_refused(tmp_path: Path) -> None:
    folder = write_detector(tmp_path, {"blur": 0.0})
    with pytest.raises(BundleError, match="changed after the run began"):
        load_labeller(str(folder), "0" * 64, CPU, 1)


@pytest.mark.parametrize("name", sorted(hostile_images()))
def test_hostile_uploads_are_refused_by_code(name: str) -> None:
    data, code = hostile_images()[name]
    with pytest.raises(ImageError) as caught:
        read_input(data, 32, DecodeLimits())
    assert caught.value.code == code
