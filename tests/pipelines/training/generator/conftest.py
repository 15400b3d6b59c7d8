"""A tiny dataset, and features of images that are quick."""

import numpy as np
import pytest

from pipelines.shards.source import TrainingSource, open_source
from pipelines.training.generator import distances
from tests.training_data import write_dataset


class FakeFeatures:
    """Features of 2048 numbers that are quick: the mean colour, repeated with weights."""

    def __call__(self, images) -> np.ndarray:
        means = np.array([image.mean() / 255 for image in images], np.float32)
        return means[:, None] * np.linspace(0, 1, 2048, dtype=np.float32)[None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TrainingSource:
    return open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "set"))])


@pytest.fixture
def quick_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "locate_weights", lambda uri: "weights")
    monkeypatch.setattr(distances, "load_features", lambda path, device: FakeFeatures())
