import pytest
import torch

from model.config import DiscriminatorConfig
from model.discriminator import PatchDiscriminator
from model.generator import parameter_count
from tests.model.builders import images


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


@pytest.mark.parametrize(("layers", "sees"), [(3, 70), (2, 34)])
def test_a_logit_sees_its_patch_and_nothing_else(layers: int, sees: int) -> None:
    """The receptive field: the pixels with a gradient, once nothing normalises over the whole image."""
    critic = PatchDiscriminator(DiscriminatorConfig(width=2, n_layers=layers)).double()
    for index, layer in enumerate(critic.layers):
        if isinstance(layer, torch.nn.InstanceNorm2d):
            critic.layers[index] = torch.nn.Identity()
    image = images(1, 128).double().requires_grad_()
    logits = critic.layers(image)
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    assert image.grad is not None
    touched = image.grad[0].abs().sum(dim=0).nonzero()
    assert (touched.max(dim=0).values - touched.min(dim=0).values + 1).tolist() == [sees, sees]


@torch.no_grad()
def test_6_a_batch_equals_its_samples() -> None:
    """Property 6, for the discriminator."""
    critic, batch = PatchDiscriminator(DiscriminatorConfig(width=4, n_layers=2)), images(3, 32)
    torch.testing.assert_close(
        critic(batch), torch.cat([critic(image[None]) for image in batch]), rtol=1e-4, atol=1e-6
    )
