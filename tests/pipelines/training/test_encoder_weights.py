from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.encoder import Encoder
from model.errors import ConfigurationError
from pipelines.storage.packaged_files import packaged_file
from pipelines.training import encoder_weights
from pipelines.training.encoder_weights import IMAGENET, NONE, find_encoder_weights


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder("tf_efficientnet_lite0", freeze_norms=True)


def test_none_leaves_the_encoder_as_it_is(encoder: Encoder) -> None:
    before = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    assert find_encoder_weights(NONE, encoder) is None
    assert all(torch.equal(value, before[name]) for name, value in encoder.backbone.state_dict().items())


def test_the_packaged_weights_are_those_of_imagenet(encoder: Encoder) -> None:
    """An encoder with its layers in another order would still run, but its features would be useless."""
    if packaged_file(encoder_weights.PACKAGE, encoder_weights.PACKAGED_FILE) is None:
        pytest.skip("the extra 'pretrained' is not installed")
    weights = find_encoder_weights(IMAGENET, encoder)
    assert weights is not None
    assert weights.licence == "Apache-2.0"
    assert "efficientnet-lite0" in weights.source
    # With the layers in the right order, the inputs of all norms have about the variance that the norms' own statistics
    # record.
    encoder.eval()
    ratios = []

    def compare(norm: torch.nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        expected = norm.running_var
        alive = expected > 1e-4  # some channels are always 0
        if alive.any():
            ratios.append((inputs[0].var(dim=(0, 2, 3))[alive] / expected[alive]).median().item())

    for layer in encoder.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_hook(compare)
    ramp = torch.linspace(-1, 1, 128)
    image = torch.stack([ramp[:, None].expand(128, 128), ramp.expand(128, 128), ramp[:, None] * ramp])
    with torch.no_grad():
        encoder.backbone(image[None] + 0.3 * torch.randn(4, 3, 128, 128))
    assert len(ratios) == 48
    # Ramps are not photos: deep layers, which respond to objects, stay quiet.
    assert all(0.1 < ratio < 5 for ratio in ratios[:20])


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_state_dict_of_the_user(encoder: Encoder, tmp_path: Path, name: str) -> None:
    state = {name: value + 1 for name, value in encoder.backbone.state_dict().items()}
    file = tmp_path / name
    save_file(state, file) if name.endswith("safetensors") else torch.save(state, file)
    weights = find_encoder_weights(str(file), encoder)
    assert weights is not None
    assert weights.source == name
    for key, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, state[key])


def test_a_file_that_is_not_a_state_dict_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("nothing of the kind")
    with pytest.raises(ConfigurationError, match=r"--encoder-weights .*notes.txt: neither"):
        find_encoder_weights(str(file), encoder)
    with pytest.raises(ConfigurationError, match=r"--encoder-weights: cannot read .*absent"):
        find_encoder_weights(str(tmp_path / "absent"), encoder)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(1)}, other)
    with pytest.raises(ConfigurationError, match=r"other.safetensors.*lack"):
        find_encoder_weights(str(other), encoder)


def test_without_package_and_network_the_remedy_is_named(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(encoder_weights, "packaged_file", lambda *_: None)
    monkeypatch.setattr("timm.create_model", fails)
    with pytest.raises(
        ConfigurationError, match=r"catalog-repair\[pretrained\].*give the URI of a state dict"
    ):
        find_encoder_weights(IMAGENET, encoder)
