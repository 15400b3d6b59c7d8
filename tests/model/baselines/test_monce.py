import copy
from typing import Any

import pytest
import torch

from model.baselines.contrast import patches, unit, weighted_contrast
from model.baselines.monce import MoNCE, MoNCEObjective
from model.baselines.resnet_blur import BlurDownsample
from model.config import DiscriminatorConfig, GeneratorConfig
from model.errors import ConfigurationError
from model.method import Batch
from model.training_step import OptimizerConfig, TrainingStep
from tests.model.builders import images, part
from tests.model.builders import small_batch as batch_of_16

#: More patches than any tap of a small image has, so that nothing is drawn at random.
ALL = 1000


def small_batch(paired: tuple[int, ...], unpaired: tuple[int, ...]) -> Batch:
    """Return images of 8 pixels, because the transport between all patches is quadratic in their number."""
    batch = batch_of_16(paired, unpaired)
    return batch._replace(x=batch.x[:, :, :8, :8].contiguous(), y=batch.y[:, :, :8, :8].contiguous())


def method(**objective: Any) -> MoNCE:
    return MoNCE(
        GeneratorConfig(0, 0, width=4, n_blocks=2, n_before_eta=0, architecture="resnet_blur"),
        DiscriminatorConfig(width=4, n_layers=1),
        MoNCEObjective(**{"n_patches": ALL, **objective}),
    )


def test_constants_are_the_released_codes() -> None:
    expected = MoNCEObjective(
        adversarial=1.0,
        nce=1.0,
        weighting="hard",
        epsilon=1.0,
        gamma=1.0,
        temperature=0.07,
        n_patches=256,
        detach_weights=False,
        nce_target="x",
    )
    assert MoNCEObjective() == expected


def contrast_by_hand(monce: MoNCE, made: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Return the mean over taps, from separate passes over both images."""
    values = []
    for project, query, key in zip(
        monce.projector.taps, monce.generator.taps(made), monce.generator.taps(source), strict=True
    ):
        every = torch.arange(query.shape[2] * query.shape[3])
        vectors = [unit(project(patches(tap, every))) for tap in (query, key)]
        values.append(weighted_contrast(*vectors))
    return torch.stack(values).mean()


@torch.no_grad()
def test_losses_by_definition() -> None:
    """L_GAN + (NCE(x, G(x)) + NCE(y, G(y))) / 2 with least squares; the discriminator's at half weight."""
    monce, batch = method(), small_batch((1, 0), (0, 1))
    fake, same = (monce.generator(image, batch.group, batch.type_) for image in (batch.x, batch.y))
    values, fakes = monce.generator_losses(batch)
    adversarial = (monce.discriminator(fake) - 1).square().mean()
    nce, identity = contrast_by_hand(monce, fake, batch.x), contrast_by_hand(monce, same, batch.y)
    torch.testing.assert_close(values["adversarial"], adversarial)
    torch.testing.assert_close(values["nce"], nce, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values["nce_identity"], identity, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values["total"], adversarial + (nce + identity) / 2, rtol=1e-4, atol=1e-5)
    expected = (monce.discriminator(batch.y) - 1).square().mean() + monce.discriminator(fake).square().mean()
    torch.testing.assert_close(monce.discriminator_losses(fakes, batch), expected / 2)


def test_a_step_is_that_of_the_released_code() -> None:
    """First the antialiased discriminator is updated on the old generator's fake, then the generator by the new one.

    Both images and the keys are those of the old generator.
    """
    monce, batch, rate = method(), small_batch((1,), (0,)), 1e-3
    own = copy.deepcopy(monce)
    assert any(isinstance(layer, BlurDownsample) for layer in monce.discriminator.features)
    losses = TrainingStep(monce, OptimizerConfig())(batch, rate)
    optimizers = {
        name: torch.optim.Adam(network.parameters(), rate, (0.5, 0.999))
        for name, network in own.named_children()
    }
    fake, same = (own.generator(image, batch.group, batch.type_) for image in (batch.x, batch.y))
    real_logits, fake_logits = own.discriminator(batch.y), own.discriminator(fake.detach())
    critic_loss = ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2
    critic_loss.backward()
    optimizers["discriminator"].step()
    adversarial = (own.discriminator(fake) - 1).square().mean()
    contrasts = [
        own.contrast(made, [tap.detach() for tap in own.generator.taps(image)]).mean()
        for made, image in ((fake, batch.x), (same, batch.y))
    ]
    for name in ("generator", "projector"):
        optimizers[name].zero_grad()
    (adversarial + sum(contrasts) / 2).backward()
    for name in ("generator", "projector"):
        optimizers[name].step()
    values = {"discriminator": critic_loss, "adversarial": adversarial}
    for name, value in {**values, "nce": contrasts[0], "nce_identity": contrasts[1]}.items():
        torch.testing.assert_close(losses[name], value.detach(), msg=name)
    for (name, value), expected in zip(monce.named_parameters(), own.parameters(), strict=True):
        if name.endswith("weight"):  # biases before a normalisation have gradients of rounding alone
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=0.1 * rate, msg=name)


@torch.no_grad()
def test_12_a_batch_is_its_samples_mean() -> None:
    monce, batch = method(), small_batch((1, 0), (0, 1))
    total = monce.generator_losses(batch)[0]
    singles = [monce.generator_losses(part(batch, i, i + 1))[0] for i in range(2)]
    for name, value in total.items():
        mean = torch.stack([values[name] for values in singles]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-5, msg=name)


@torch.no_grad()
def test_the_target_may_hold_the_keys_of_trusted_pairs() -> None:
    """With nce_target='y', another y changes nce for a trusted pair, and not for other samples."""
    for target, expected in (("x", [False, False]), ("y", [True, False])):
        torch.manual_seed(1)
        monce, batch = method(nce_target=target), small_batch((1, 0), (0, 1))
        usual = monce.generator_losses(batch)[0]["nce"]
        changed = []
        for sample in (0, 1):
            y = batch.y.clone()
            y[sample] = images(1, 8, seed=77)[0]
            changed.append(not torch.equal(monce.generator_losses(batch._replace(y=y))[0]["nce"], usual))
        assert changed == expected


def test_only_the_generated_image_learns_from_the_contrast() -> None:
    """The keys' own pass gets no gradient: detaching them changes no gradient."""
    monce, batch = method(), small_batch((1,), (0,))
    _, taps = monce.generator.translate(batch.x)
    made = images(1, 8, seed=5)
    monce.contrast(made, taps).sum().backward()
    with_graph = [p.grad.clone() for p in monce.generator.parameters() if p.grad is not None]
    monce.zero_grad(set_to_none=True)
    monce.contrast(made, [tap.detach() for tap in taps]).sum().backward()
    without = [p.grad for p in monce.generator.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(with_graph, without, strict=True))


@torch.no_grad()
def test_without_contrast_there_are_no_further_passes() -> None:
    monce, batch = method(nce=0), small_batch((1,), (0,))
    calls: list[int] = []
    monce.generator.stem.register_forward_pre_hook(lambda *_: calls.append(1))
    values, _ = monce.generator_losses(batch)
    assert len(calls) == 1
    assert torch.equal(values["total"], values["adversarial"])


def test_patches_are_drawn_again_in_every_call() -> None:
    monce, batch = method(n_patches=8), small_batch((1,), (0,))
    with torch.no_grad():
        first, second = (monce.generator_losses(batch)[0]["nce"] for _ in range(2))
        torch.manual_seed(0)
        third = monce.generator_losses(batch)[0]["nce"]
        torch.manual_seed(0)
        assert torch.equal(monce.generator_losses(batch)[0]["nce"], third)
    assert first != second


@pytest.mark.parametrize(
    "changes",
    [
        {"adversarial": 0.0},
        {"nce": -1.0},
        {"epsilon": 0.0},
        {"temperature": float("nan")},
        {"n_patches": 1},
        {"nce_target": "z"},
    ],
)
def test_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(changes))):
        MoNCEObjective(**changes)
