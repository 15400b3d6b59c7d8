import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytorch_fid.inception
import torch
from PIL import Image, ImageOps
from pytorch_fid.fid_score import calculate_activation_statistics, calculate_frechet_distance

from model.errors import ConfigurationError
from pipelines.images.resize import resize_bicubic
from pipelines.metrics.fid import inception
from pipelines.metrics.fid.distance import frechet_distance
from pipelines.metrics.fid.inception import FEATURE_DIMENSION, FeatureExtractor, find_weights, load_features
from pipelines.metrics.fid.kid import kernel_inception_distance
from pipelines.metrics.fid.statistics import FeatureSet
from pipelines.metrics.fid.weights import read_weights


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # no waiting at barriers on a shared machine
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def extract() -> FeatureExtractor:
    return load_features(find_weights(None), "cpu")


def draw(seed: int, colours: int = 3) -> np.ndarray:
    """Return a picture of soft coloured patches with some noise, 64 to 256 pixels a side."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(64, 257, 2)
    patches = Image.fromarray(rng.integers(0, 256, (colours, colours, 3), dtype=np.uint8))
    smooth = np.asarray(patches.resize((int(width), int(height)), Image.Resampling.BICUBIC), dtype=np.float32)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def collect(features: np.ndarray) -> FeatureSet:
    statistics = FeatureSet()
    statistics.add(features)
    return statistics


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_features_equal_those_of_the_official_torchscript(extract: FeatureExtractor) -> None:
    """Compare with the packaged network on the same input, resized to 299 as in pytorch-fid."""
    official = torch.jit.load(find_weights(None), map_location="cpu")
    images = [resize_bicubic(draw(seed), 256, 256) for seed in range(3)]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        stretched = torch.nn.functional.interpolate(
            batch, size=(299, 299), mode="bilinear", align_corners=False
        )
        expected = official(2 * stretched - 1).numpy()
    features = extract(images)
    assert features.dtype == np.float32
    assert features.shape == (3, FEATURE_DIMENSION)
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_fid_agrees_with_pytorch_fid_on_the_same_png_files(
    extract: FeatureExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Property 24, from pictures to the distance by pytorch-fid's functions; both covariances are singular."""
    state = read_weights(find_weights(None)).state
    monkeypatch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: state)
    network = pytorch_fid.inception.InceptionV3([3])
    expected_moments, sets = [], []
    for name, colours in (("flat", 2), ("busy", 9)):
        images = [draw(seed, colours) for seed in range(12)]
        files = [tmp_path / f"{name}-{i}.png" for i in range(len(images))]
        for file, image in zip(files, images, strict=True):
            Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC).save(file)
        expected_moments.extend(calculate_activation_statistics(files, network, batch_size=6, num_workers=0))
        sets.append(collect(extract(images)))
    expected = calculate_frechet_distance(*expected_moments)
    assert expected > 10  # the sets do differ
    assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-3)


def test_features_of_an_image_do_not_depend_on_its_batch(
    extract: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception, "PASS_SIZE", 3)
    images = [draw(seed) for seed in range(5)]  # more than one pass, and a remainder
    together = extract(images)
    for i in (0, 4):
        np.testing.assert_allclose(extract([images[i]])[0], together[i], atol=1e-5)
    assert np.abs(together[0] - together[4]).max() > 0.1
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_allclose(extract(images[:1]), together[:1], atol=1e-5)
    assert extract([]).shape == (0, FEATURE_DIMENSION)


def test_building_the_network_downloads_nothing_and_leaves_pytorch_fid_unchanged(
    extract: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a download was tried")

    monkeypatch.setattr(pytorch_fid.inception, "load_state_dict_from_url", refuse)
    load_features(find_weights(None), "cpu")
    assert pytorch_fid.inception.load_state_dict_from_url is refuse


def test_a_state_dict_gives_the_same_features_and_is_described_as_unofficial(
    extract: FeatureExtractor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "copy.pth"
    torch.save(read_weights(find_weights(None)).state, path)
    with caplog.at_level(logging.WARNING):
        copy = load_features(str(path), "cpu")
    assert "not the official file" in caplog.text
    assert (extract.describe()["official_weights"], copy.describe()["official_weights"]) == (True, False)
    images = [draw(0)]
    assert np.array_equal(copy(images), extract(images))


def test_a_state_dict_of_other_shapes_is_a_configuration_error(tmp_path: Path) -> None:
    state = read_weights(find_weights(None)).state
    path = tmp_path / "wrong.pth"
    torch.save({**state, "Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 5, 5)}, path)
    with pytest.raises(ConfigurationError, match=r"wrong\.pth: does not fit .*Conv2d_1a_3x3"):
        load_features(str(path), "cpu")


def test_real_photos_composited_on_white_come_closer_to_composited_photos(
    extract: FeatureExtractor, shared_photos: Path
) -> None:
    table = pq.ParquetFile(shared_photos).read_row_group(0, columns=["image", "mask"]).slice(0, 22)
    before, after, reference = [], [], []
    for i, row in enumerate(table.to_pylist()):
        photo = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(row["image"]))).convert("RGB"))
        mask = np.asarray(Image.open(io.BytesIO(row["mask"])), dtype=np.float32)[..., None] / 255
        composited = np.rint(photo * mask + 255 * (1 - mask)).astype(np.uint8)
        if i < 8:
            before.append(photo)
            after.append(composited)
        else:
            reference.append(composited)
    sets = [extract(images) for images in (before, after, reference)]
    target = collect(sets[2])
    assert frechet_distance(collect(sets[1]), target) < frechet_distance(collect(sets[0]), target)
    kid_before, kid_after = (kernel_inception_distance(features, sets[2]) for features in sets[:2])
    assert kid_after.mean < kid_before.mean
