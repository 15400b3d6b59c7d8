import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.baselines.pix2pix import Pix2Pix, Pix2PixObjective
from model.config import DiscriminatorConfig, GeneratorConfig
from model.method import Fakes
from model.training_step import OptimizerConfig, TrainingStep
from tests.model.builders import images, part, small_batch


def method() -> Pix2Pix:
    """Return Pix2Pix with the ResNet, which draws nothing at random."""
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


@pytest.mark.parametrize("sizes", [(1,), (3,), (1, 1)])
def test_a_step_is_that_of_the_authors_code(sizes: tuple[int, ...]) -> None:
    """First the discriminator is updated on the old generator's fakes, then the generator by the new discriminator."""
    config = GeneratorConfig(0, 0, width=4, architecture="unet", n_downsamplings=4, dropout=0.0)
    pix = Pix2Pix(config, DiscriminatorConfig(width=4, n_layers=1), Pix2PixObjective())
    own, rate = copy.deepcopy(pix), 1e-3
    batch = small_batch((1,) * sum(sizes), (0,) * sum(sizes))
    edges = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
    parts = [part(batch, *edge) for edge in itertools.pairwise(edges)]
    losses = TrainingStep(pix, OptimizerConfig())(parts, rate)
    made = [(one, own.generator(one.x, one.group, one.type_)) for one in parts]
    critic_loss = sum(own.discriminator_losses(Fakes(fake.detach()), one) for one, fake in made)
    critic_loss = critic_loss / len(parts)
    gradients = torch.autograd.grad(critic_loss, own.discriminator_parameters())
    descend(own.discriminator_parameters(), gradients, rate)
    judged = [own.discriminator(torch.cat([one.x, fake], dim=1)) for one, fake in made]
    fooling = sum(F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)) for logits in judged)
    distance = sum(F.l1_loss(fake, one.y) for one, fake in made)
    total = (fooling + 100 * distance) / len(parts)
    descend(own.generator_parameters(), torch.autograd.grad(total, own.generator_parameters()), rate)
    torch.testing.assert_close(losses["discriminator"], critic_loss.detach())
    torch.testing.assert_close(losses["total"], total.detach())
    for (name, value), expected in zip(pix.named_parameters(), own.parameters(), strict=True):
        # The size of Adam's first step is the rate for any gradient, so only the signs are compared here.
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=0.1 * rate, msg=name)


def descend(parameters: list[nn.Parameter], gradients: tuple[Tensor, ...], rate: float) -> None:
    """Apply one step of Adam with CycleGAN's settings."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    torch.optim.Adam(parameters, rate, (0.5, 0.999)).step()


@torch.no_grad()
def test_12_13_only_trusted_pairs_count_and_a_batch_is_its_samples_mean() -> None:
    """Properties 12 and 13 hold without statistics over the batch: in evaluation, each sample is normalised alone."""
    pix, batch = method().eval(), small_batch((1, 0, 1), (0, 1, 1))
    total, fakes = pix.generator_losses(batch)
    singles = [pix.generator_losses(part(batch, i, i + 1)) for i in range(3)]
    for name, value in total.items():
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
    assert pix.generator_losses(other)[0]["total"].item() == pytest.approx(total["total"].item(), rel=1e-5)
