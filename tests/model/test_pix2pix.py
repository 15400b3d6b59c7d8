import pytest
import torch
import torch.nn.functional as F

from model.config import DiscriminatorConfig, GeneratorConfig
from model.pix2pix import Pix2Pix, Pix2PixObjective
from tests.model.builders import images, part, small_batch


def method() -> Pix2Pix:
    """With the ResNet, which draws nothing at random."""
    return Pix2Pix(
        GeneratorConfig(0, 0, width=4, n_blocks=1, n_before_eta=0),
        DiscriminatorConfig(width=4, n_layers=1),
        Pix2PixObjective(),
    )


def test_constants() -> None:
    assert Pix2PixObjective() == Pix2PixObjective(adversarial=1.0, reconstruction=100.0)


@torch.no_grad()
def test_losses_by_definition() -> None:
    """Cross-entropy GAN plus 100 L1; the discriminator judges (x, y) as six channels, at half weight."""
    pix, batch = method(), small_batch((1, 1), (0, 0))
    fake = pix.generator(batch.x, batch.group, batch.type_)
    judged_fake = pix.discriminator(torch.cat([batch.x, fake], dim=1))
    judged_real = pix.discriminator(torch.cat([batch.x, batch.y], dim=1))
    ones, zeros = torch.ones_like(judged_real), torch.zeros_like(judged_real)
    values, fakes = pix.generator_losses(batch)
    adversarial = F.binary_cross_entropy_with_logits(judged_fake, ones)
    torch.testing.assert_close(values["adversarial"], adversarial)
    torch.testing.assert_close(values["reconstruction"], F.l1_loss(fake, batch.y))
    torch.testing.assert_close(values["total"], adversarial + 100 * F.l1_loss(fake, batch.y))
    expected = F.binary_cross_entropy_with_logits(judged_real, ones)
    expected = (expected + F.binary_cross_entropy_with_logits(judged_fake, zeros)) / 2
    torch.testing.assert_close(pix.discriminator_losses(fakes, batch), expected)


@torch.no_grad()
def test_12_13_only_trusted_pairs_count_and_a_batch_is_its_samples_mean() -> None:
    pix, batch = method(), small_batch((1, 0, 1), (0, 1, 1))
    whole, fakes = pix.generator_losses(batch)
    singles = [pix.generator_losses(part(batch, i, i + 1)) for i in range(3)]
    for name, value in whole.items():
        torch.testing.assert_close(
            value, torch.stack([s[0][name] for s in singles]).mean(), rtol=1e-4, atol=1e-5
        )
        assert singles[1][0][name].item() == 0
    changed = batch.y.clone()
    changed[1] = images(1, seed=50)[0]
    other = batch._replace(y=changed)
    torch.testing.assert_close(
        pix.discriminator_losses(fakes, other), pix.discriminator_losses(fakes, batch), rtol=1e-5, atol=1e-7
    )
    assert pix.generator_losses(other)[0]["total"].item() == pytest.approx(whole["total"].item(), rel=1e-5)
