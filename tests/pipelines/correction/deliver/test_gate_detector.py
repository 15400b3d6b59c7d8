from pathlib import Path

import numpy as np
import pytest

from model.detector.network import load_detector
from model.errors import BundleError
from pipelines.contracts.label_map import LabelMap
from pipelines.correction.deliver.gate_detector import DetectorGate
from tests.catalogs import picture, write_detector

MAP = LabelMap.parse(
    """
    version: 1
    groups: {background: 0}
    defects: {watermark: {id: 0, group: background, order: 1}, stain: {id: 1, group: background, order: 2}}
    rules:
      - {label: logo, defect: watermark, min_score: 0.6, product_types: [mug]}
      - {label: stamp, defect: watermark}
      - {label: stain, defect: stain, min_score: 0.95}
    """,
    "map",
)


def test_scores_are_of_the_labels_that_mean_the_defect(tmp_path: Path) -> None:
    folder = write_detector(tmp_path / "detector", {"logo": 2.0, "stamp": 0.0, "stain": 2.0})
    gate = DetectorGate(str(folder), load_detector(folder).version, MAP)
    remaining = gate.load()
    logo = 1 / (1 + np.exp(-2.0))
    for image in (picture(1), picture(2, 700, 90)):
        scores = remaining.scores(image, ("watermark", "stain"), "mug")
        assert scores == {"watermark": pytest.approx(logo, abs=1e-3), "stain": 0.0}
        assert remaining.scores(image, ("watermark",), "shoe") == {"watermark": pytest.approx(0.5, abs=1e-3)}


def test_a_bundle_that_changed_is_not_asked(tmp_path: Path) -> None:
    folder = write_detector(tmp_path / "detector", {"logo": 2.0})
    with pytest.raises(BundleError, match="changed"):
        DetectorGate(str(folder), "0" * 64, MAP).load()
