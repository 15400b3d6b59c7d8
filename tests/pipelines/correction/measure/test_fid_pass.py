import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.correction.measure import fid_pass
from pipelines.correction.measure.fid_pass import FeatureActor, write_fid
from pipelines.metrics.fid.statistics import FeatureSet, Moments
from pipelines.metrics.reference import Reference
from tests.catalogs import picture
from tests.hostile_images import encode


class Extractor:
    """Features that identify the image."""

    def __call__(self, pixels: list[np.ndarray]) -> np.ndarray:
        means = [image.mean() for image in pixels]
        return np.tile(np.array(means, np.float32).reshape(-1, 1), (1, 2048))


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> FeatureActor:
    monkeypatch.setattr(fid_pass, "load_features", lambda weights, device: Extractor())
    return FeatureActor("weights", "cpu")


def test_features_belong_to_their_images_and_a_broken_one_has_none(actor: FeatureActor) -> None:
    pictures = [picture(1), picture(2)]
    rows = [
        ("s", "a", encode(pictures[0], "PNG")),
        ("s", "x", b"broken"),
        ("s", "b", encode(pictures[1], "PNG")),
    ]
    table = pa.table([list(column) for column in zip(*rows, strict=True)], names=["set", "image_id", "image"])
    features = actor(table)
    assert features.column("image_id").to_pylist() == ["a", "x", "b"]
    first, broken, last = features.column("features").to_pylist()
    values = [np.frombuffer(data, np.float32)[0] for data in (first, last)]
    assert values == pytest.approx([one.mean() for one in pictures])
    assert broken is None


def test_no_images_keep_their_types(actor: FeatureActor) -> None:
    empty = pa.table(
        [pa.array([], kind) for kind in (pa.string(), pa.string(), pa.binary())], ["set", "image_id", "image"]
    )
    assert actor(empty).schema == fid_pass._FEATURES


def statistics(*values: float) -> FeatureSet:
    features = FeatureSet(2048)
    features.add(np.array([[value] * 2048 for value in values], np.float32), [f"{value}" for value in values])
    return features


def test_a_defects_reference_is_its_own_images_and_those_for_all() -> None:
    sets = {"reference/": statistics(1, 2), "reference/watermark": statistics(3)}
    reference = Reference("images", units=())
    assert fid_pass._reference(reference, sets, "watermark").n == 3  # type: ignore[union-attr]
    assert fid_pass._reference(reference, sets, "wrong_angle").n == 2  # type: ignore[union-attr]
    assert fid_pass._reference(reference, {}, "wrong_angle") is None
    moments = Moments(np.zeros(2048), np.eye(2048))
    given = Reference("statistics", moments={"watermark": moments})
    assert fid_pass._reference(given, sets, "watermark") is moments
    assert fid_pass._reference(given, sets, "wrong_angle") is None


def test_the_tables_are_written_beside_the_report(tmp_path: Path) -> None:
    row = {
        "n": 5,
        "n_reference": 4,
        "fid_before": 9.5,
        "fid_after": 3.25,
        "kid_before": 0.1,
        "kid_after": 0.01,
    }
    summary = {
        "defects": {"watermark": {**row, "kid_after_ci95": [0.0, 0.02], "note": "n"}},
        "features": {"x": 1},
    }
    write_fid(str(tmp_path), summary)
    assert json.loads((tmp_path / "report" / "fid.json").read_text()) == summary
    assert (tmp_path / "report" / "fid.csv").read_text().splitlines()[1].startswith("watermark,5,4,9.5,3.25,")
