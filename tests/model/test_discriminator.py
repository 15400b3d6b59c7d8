import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model.config import CONDITIONS, DiscriminatorConfig
from model.discriminator import PatchDiscriminator
from model.errors import ConfigurationError
from model.generator import parameter_count
from model.layers import BatchNorm
from tests.model.builders import images, labels


@pytest.mark.parametrize(("side", "patches"), [(64, 6), (256, 30)])
@torch.no_grad()
def test_1_logits_per_patch(side: int, patches: int) -> None:
    """Property 1: 256 pixels give 30x30 logits, 64 give 6x6."""
    logits = PatchDiscriminator(DiscriminatorConfig(width=2))(images(2, side))
    assert logits.shape == (2, 1, patches, patches)
    assert logits.dtype == torch.float32


def test_2_parameter_count() -> None:
    """Property 2."""
    assert parameter_count(PatchDiscriminator(DiscriminatorConfig())) == 2_764_737


def test_2_pix2pixs_judges_six_channels_with_batch_norms() -> None:
    critic = PatchDiscriminator(DiscriminatorConfig(), inputs=6, batch_norm=True)
    assert parameter_count(critic) == 2_768_705
    convolutions = [layer for layer in critic.features if isinstance(layer, nn.Conv2d)]
    assert [layer.bias is not None for layer in convolutions] == [True, False, False, False]
    assert sum(isinstance(layer, BatchNorm) for layer in critic.features) == 3


@torch.no_grad()
def test_the_antialiased_one_convolves_at_stride_1_and_blurs_to_halve() -> None:
    """Compute MoNCE's by hand: two layers halve, a third does not; patches and parameters are as many as before."""
    plain = PatchDiscriminator(DiscriminatorConfig(width=4, n_layers=2))
    critic = PatchDiscriminator(DiscriminatorConfig(width=4, n_layers=2), antialiased=True)
    assert parameter_count(critic) == parameter_count(plain)
    convolutions = [layer for layer in critic.features if isinstance(layer, nn.Conv2d)]
    assert [layer.stride for layer in convolutions] == [(1, 1)] * 3
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4
    features = images(2, 32)
    for number, layer in enumerate(convolutions):
        features = F.conv2d(features, layer.weight, layer.bias, padding=1)
        features = F.leaky_relu(features if number == 0 else F.instance_norm(features), 0.2)
        if number < 2:
            kernel = torch.outer(taps, taps).expand(features.shape[1], 1, 3, 3)
            padded = F.pad(features, (1, 1, 1, 1), mode="reflect")
            features = F.conv2d(padded, kernel, stride=2, groups=features.shape[1])
    logits = critic(images(2, 32))
    assert logits.shape == plain(images(2, 32)).shape == (2, 1, 6, 6)
    torch.testing.assert_close(logits, critic.last(features), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("layers", "antialiased", "side"), [(3, False, 70), (2, False, 34), (3, True, 84)])
def test_a_logit_depends_on_its_patch_only(layers: int, antialiased: bool, side: int) -> None:
    """The receptive field is the set of pixels with a gradient, if nothing normalises over the whole image."""
    critic = PatchDiscriminator(
        DiscriminatorConfig(width=2, n_layers=layers), antialiased=antialiased
    ).double()
    for index, layer in enumerate(critic.features):
        if isinstance(layer, torch.nn.InstanceNorm2d):
            critic.features[index] = torch.nn.Identity()
    image = images(1, 128).double().requires_grad_()
    logits = critic.last(critic.features(image))
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    assert image.grad is not None
    touched = image.grad[0].abs().sum(dim=0).nonzero()
    assert (touched.max(dim=0).values - touched.min(dim=0).values + 1).tolist() == [side, side]


@torch.no_grad()
def test_6_a_batch_equals_its_samples() -> None:
    """Property 6 holds for the discriminator."""
    critic, batch = PatchDiscriminator(DiscriminatorConfig(width=4, n_layers=2)), images(3, 32)
    torch.testing.assert_close(
        critic(batch), torch.cat([critic(image[None]) for image in batch]), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("condition", CONDITIONS)
@torch.no_grad()
def test_the_label_matters_only_if_it_is_a_condition(condition: str) -> None:
    critic = PatchDiscriminator(DiscriminatorConfig(width=4, n_layers=2, condition=condition), n_labels=3)
    batch = images(2, 32)
    first, second = critic(batch, labels(0, 1)), critic(batch, labels(0, 2))
    assert first.shape == (2, 1, 6, 6)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1]) == (condition == "none")


@torch.no_grad()
def test_the_projection_adds_the_embeddings_product_with_the_features() -> None:
    """A constant feature map makes every window's mean that constant, except for the padding at the border."""
    critic = PatchDiscriminator(DiscriminatorConfig(width=2, n_layers=1, condition="projection"), n_labels=2)
    critic.features = torch.nn.Identity()
    critic.projection = torch.nn.Linear(2, 2, bias=False)
    critic.projection.weight.copy_(torch.tensor([[1.0, 10.0], [2.0, 20.0]]))
    critic.last = torch.nn.Conv2d(2, 1, 4, padding=1)
    features = torch.tensor([3.0, 4.0])[None, :, None, None].expand(1, 2, 6, 6)
    difference = critic(features, labels(1)) - critic(features, labels(0))
    torch.testing.assert_close(difference[0, 0, 2, 2], torch.tensor(30.0 + 80 - 3 - 8))


@pytest.mark.parametrize("condition", ["concat", "projection"])
def test_a_condition_without_labels_is_refused(condition: str) -> None:
    with pytest.raises(ConfigurationError, match="needs labels"):
        PatchDiscriminator(DiscriminatorConfig(condition=condition))
