from typing import Any

import pytest
import torch
import torch.nn.functional as F

from model.baselines.cyclegan import CycleGAN, CycleGANObjective
from model.config import DiscriminatorConfig, GeneratorConfig
from model.errors import ConfigurationError
from tests.model.builders import part, small_batch


def method(**objective: Any) -> CycleGAN:
    return CycleGAN(
        GeneratorConfig(0, 0, width=4, n_blocks=1, n_before_eta=0),
        DiscriminatorConfig(width=4, n_layers=1),
        CycleGANObjective(**objective),
    )


def test_constants() -> None:
    assert CycleGANObjective() == CycleGANObjective(adversarial=1.0, cycle=10.0, identity=5.0, pool_size=50)


@torch.no_grad()
def test_losses_by_definition() -> None:
    gan, batch = method(), small_batch((1, 1), (0, 0))
    labels = (batch.group, batch.type_)
    forth, back = gan.generator, gan.generator_back
    fake_y, fake_x = forth(batch.x, *labels), back(batch.y, *labels)
    values, fakes = gan.generator_losses(batch)
    cycle = F.l1_loss(back(fake_y, *labels), batch.x) + F.l1_loss(forth(fake_x, *labels), batch.y)
    identity = F.l1_loss(forth(batch.y, *labels), batch.y) + F.l1_loss(back(batch.x, *labels), batch.x)
    adversarial = (gan.d_y(fake_y) - 1).square().mean() + (gan.d_x(fake_x) - 1).square().mean()
    torch.testing.assert_close(values["cycle"], cycle)
    torch.testing.assert_close(values["identity"], identity)
    torch.testing.assert_close(values["adversarial"], adversarial)
    torch.testing.assert_close(values["total"], adversarial + 10 * cycle + 5 * identity)
    expected = (gan.d_y(batch.y) - 1).square().mean() + gan.d_y(fake_y).square().mean()
    expected = expected + (gan.d_x(batch.x) - 1).square().mean() + gan.d_x(fake_x).square().mean()
    torch.testing.assert_close(gan.discriminator_losses(fakes, batch), expected / 2)


@torch.no_grad()
def test_12_a_batch_is_its_samples_mean_and_the_masks_do_not_matter() -> None:
    gan, batch = method(pool_size=0), small_batch((1, 0, 1), (0, 1, 0))
    total, fakes = gan.generator_losses(batch)
    singles = [gan.generator_losses(part(batch, i, i + 1)) for i in range(3)]
    for name, value in total.items():
        mean = torch.stack([values[name] for values, _ in singles]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-5, msg=name)
    critics = [gan.discriminator_losses(made, part(batch, i, i + 1)) for i, (_, made) in enumerate(singles)]
    torch.testing.assert_close(
        gan.discriminator_losses(fakes, batch), torch.stack(critics).mean(), rtol=1e-4, atol=1e-5
    )
    unmasked = batch._replace(paired=torch.ones(3), unpaired=torch.ones(3))
    assert torch.equal(gan.generator_losses(unmasked)[0]["total"], total["total"])


@torch.no_grad()
def test_weights_of_zero_translate_nothing() -> None:
    gan, batch = method(cycle=0, identity=0), small_batch((1,), (1,))
    calls = []
    for generator in (gan.generator, gan.generator_back):
        generator.register_forward_pre_hook(lambda *_: calls.append(1))
    values, _ = gan.generator_losses(batch)
    assert len(calls) == 2
    assert values["cycle"].item() == values["identity"].item() == 0


@torch.no_grad()
def test_each_discriminator_has_a_pool_of_its_own() -> None:
    gan, batch = method(pool_size=2), small_batch((1, 1), (1, 1))
    values, fakes = gan.generator_losses(batch)
    gan.discriminator_losses(fakes, batch)
    assert torch.equal(torch.stack(gan.pool_y.images), fakes.y)
    assert fakes.x is not None
    assert torch.equal(torch.stack(gan.pool_x.images), fakes.x)
    restored = method(pool_size=2)
    restored.load_state_dict(gan.state_dict())
    assert torch.equal(torch.stack(restored.pool_y.images), fakes.y)
    assert values["total"] == restored.generator_losses(batch)[0]["total"]


@pytest.mark.parametrize("changes", [{"adversarial": 0.0}, {"cycle": -1.0}, {"pool_size": -1}])
def test_out_of_range(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(changes))):
        CycleGANObjective(**changes)
