import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from model.errors import ConfigurationError
from pipelines.saliency import load_saliency
from pipelines.saliency.classical import ClassicalSaliency
from tests.pipelines.saliency.networks import onnx_network, torchscript_network

RED, BLUE = (220, 30, 30), (30, 30, 220)


def half_red(height: int, width: int) -> np.ndarray:
    """A photo whose left half is red, its right half blue."""
    left = np.arange(width) < width // 2
    return np.where(np.broadcast_to(left[None, :, None], (height, width, 3)), np.uint8(RED), np.uint8(BLUE))


def save(folder: Path, kind: str) -> str:
    made = onnx_network(folder / "n.onnx") if kind == "onnx" else torchscript_network(folder / "n.pt")
    return str(made)


def test_classical_needs_no_file() -> None:
    assert isinstance(load_saliency("classical"), ClassicalSaliency)


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_photos_of_any_sizes_get_masks_of_their_size_in_their_order(tmp_path: Path, kind: str) -> None:
    saliency = load_saliency(save(tmp_path, kind))
    photos = [half_red(40, 60), half_red(64, 30)[:, ::-1].copy(), half_red(1, 2)] + [half_red(20, 20)] * 9
    masks = saliency(photos)
    assert [mask.shape for mask in masks] == [photo.shape[:2] for photo in photos]
    assert all(mask.dtype == np.float32 and mask.min() >= 0 and mask.max() <= 1 for mask in masks)
    assert masks[0][:, :25].min() > 0.99 > 0.01 > masks[0][:, 35:].max()
    assert masks[1][:, :12].max() < 0.01 < 0.99 < masks[1][:, 18:].min()
    assert saliency([]) == []


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_photos_mask_does_not_depend_on_its_company(tmp_path: Path, kind: str) -> None:
    saliency = load_saliency(save(tmp_path, kind))
    photos = [np.random.default_rng(i).integers(0, 256, (32, 24, 3), np.uint8) for i in range(10)]
    for together, photo in zip(saliency(photos), photos, strict=True):
        assert np.abs(together - saliency([photo])[0]).max() < 1e-5


def test_both_formats_agree(tmp_path: Path) -> None:
    photo = np.random.default_rng(3).integers(0, 256, (50, 70, 3), np.uint8)
    one, other = (load_saliency(save(tmp_path, kind))([photo])[0] for kind in ("onnx", "torchscript"))
    assert np.abs(one - other).max() < 1e-5


def test_an_output_in_0_1_is_taken_as_it_is(tmp_path: Path) -> None:
    photo = half_red(32, 32)
    logits = load_saliency(str(onnx_network(tmp_path / "a.onnx", logits=True)))([photo])[0]
    sigmoid = load_saliency(str(onnx_network(tmp_path / "b.onnx", logits=False)))([photo])[0]
    assert np.abs(logits - sigmoid).max() < 1e-5


@pytest.mark.parametrize("batch", [1, 4])
def test_a_file_that_fixes_size_and_number_of_photos_is_obeyed(tmp_path: Path, batch: int) -> None:
    saliency = load_saliency(str(onnx_network(tmp_path / "n.onnx", size=48, batch=batch)))
    masks = saliency([half_red(40, 60)] * 6)
    assert len(masks) == 6
    assert all(mask[:, :25].min() > 0.99 and mask[:, 35:].max() < 0.01 for mask in masks)


def test_the_json_beside_it_says_how_photos_enter(tmp_path: Path) -> None:
    network = torchscript_network(tmp_path / "n.pt", extra=2)
    (tmp_path / "n.json").write_text(
        '{"size": 64, "mean": [0, 0, 0], "std": [1, 1, 1], "output": -1, "sigmoid": true}'
    )
    # A uniform grey photo has the logit 0 under equal means; the JSON's output -1 is the mask, 0 would be zeros too.
    saliency = load_saliency(str(network))
    assert saliency([np.full((8, 8, 3), 90, np.uint8)])[0] == pytest.approx(0.5)
    red = np.broadcast_to(np.uint8([140, 0, 127]), (8, 8, 3)).copy()
    assert saliency([red])[0] == pytest.approx(1 / (1 + np.exp(-20 * 13 / 255)), abs=1e-4)


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_network_is_read_from_any_storage(tmp_path: Path, kind: str) -> None:
    local = Path(save(tmp_path, kind))
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/saliency-test/{local.name}", local.read_bytes())
    memory.pipe_file("/saliency-test/n.json", b'{"size": 40}')
    photo = half_red(40, 60)
    try:
        mask = load_saliency(f"memory://saliency-test/{local.name}")([photo])[0]
    finally:
        memory.rm("/saliency-test", recursive=True)
    assert mask[:, :25].min() > 0.99 > 0.01 > mask[:, 35:].max()


@pytest.mark.parametrize("name", ["clasical", "network.pth", "", "s3://bucket/network"])
def test_a_name_that_is_neither_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--saliency .*'classical'.*\.onnx"):
        load_saliency(name)


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_a_missing_or_broken_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"n{suffix}"
    with pytest.raises(ConfigurationError, match=f"--saliency: cannot read {path}.*does not exist"):
        load_saliency(str(path))
    path.write_bytes(b"no network")
    with pytest.raises(ConfigurationError, match=f"--saliency {path}: not a"):
        load_saliency(str(path))


def test_saved_weights_are_refused_without_being_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "n.pt"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ConfigurationError, match=r"torch\.jit\.trace"):
        load_saliency(str(path))


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = onnx_network(tmp_path / "n.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigurationError, match=r"catalog-repair\[saliency\]"):
        load_saliency(str(network))


def test_a_size_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    network = onnx_network(tmp_path / "n.onnx", size=48)
    (tmp_path / "n.json").write_text('{"size": 64}')
    with pytest.raises(ConfigurationError, match="48x48"):
        load_saliency(str(network))


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
@pytest.mark.parametrize("device", ["cuda:63", "tpu"])
def test_a_device_that_is_not_there_is_refused(tmp_path: Path, kind: str, device: str) -> None:
    with pytest.raises(ConfigurationError, match=f"device '{device}'"):
        load_saliency(save(tmp_path, kind), device)


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_an_array_that_is_no_photo_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\)"):
        load_saliency(save(tmp_path, kind))([np.zeros((8, 8), np.uint8)])
