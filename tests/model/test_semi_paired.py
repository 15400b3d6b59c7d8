from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model.config import DiscriminatorConfig
from model.discriminator import PatchDiscriminator
from model.errors import ConfigurationError
from model.generator import Generator
from model.layers import ImageGenerator
from model.losses import (
    average_discriminator_loss,
    average_generator_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)
from model.method import Batch, Fakes, Method, Truth
from model.semi_paired import DX_FAKES, SemiPaired, SemiPairedObjective
from tests.model.builders import SMALL_CRITIC, images, part, small_batch, small_config

TERMS = ("adversarial", "reconstruction", "cycle", "identity")
FORWARD: dict[str, Any] = {"cycle": 0, "directions": "forward"}
#: p and u of each sample, 0 or 1 each.
masks = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=4)


def method(**objective: Any) -> SemiPaired:
    return SemiPaired(small_config(), SMALL_CRITIC, SemiPairedObjective(**objective))


def losses(of: Method, batch: Batch) -> dict[str, Tensor]:
    return of.generator_losses(batch)[0]


def critics_loss(of: Method, batch: Batch) -> Tensor:
    """Return the discriminators' loss against the generators' current fakes of the batch."""
    return of.discriminator_losses(of.generator_losses(batch)[1], batch)


class Returns(ImageGenerator):
    """A generator that returns its input plus a constant and counts its calls and their samples."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__(small_config())
        self.offset, self.calls, self.samples = offset, 0, 0

    def forward(self, image: Tensor, group: Tensor, type_: Tensor) -> Tensor:
        self.calls += 1
        self.samples += len(image)
        return image + self.offset


class Brightness(nn.Module):
    """A discriminator that judges bright patches as real."""

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(image, 4)


def returning(forward: float = 0.0, back: float = 0.0) -> SemiPaired:
    """Return a method without discriminators whose generators add constants."""
    nets = method(adversarial=0)
    nets.generator, nets.generator_back = Returns(forward), Returns(back)
    return nets


NO_CRITICS: dict[str, Any] = {"adversarial": 0}


@settings(max_examples=5, deadline=None)
@given(samples=masks, seed=st.integers(0, 2**31))
@torch.no_grad()
def test_12_a_batch_is_the_mean_of_its_samples(samples: list[tuple[int, int]], seed: int) -> None:
    """Every term and the total, of both players, under mixed masks (property 12)."""
    torch.manual_seed(seed)
    nets = method()
    batch = small_batch(tuple(p for p, _ in samples), tuple(u for _, u in samples), seed % 1000)
    total = losses(nets, batch)
    singles = [part(batch, i, i + 1) for i in range(len(samples))]
    parts = [losses(nets, single) for single in singles]
    for name in (*TERMS, "total"):
        mean = torch.stack([value[name] for value in parts]).mean()
        torch.testing.assert_close(total[name], mean, rtol=1e-4, atol=1e-5, msg=name)
    critics = [critics_loss(nets, single) for single in singles]
    torch.testing.assert_close(critics_loss(nets, batch), torch.stack(critics).mean(), rtol=1e-4, atol=1e-5)


def test_12_terms_by_hand() -> None:
    """The generators add .1 and .2, and the images differ by .5 (property 12 and the objective's definition)."""
    batch = small_batch((1, 1, 0, 0), (1, 0, 1, 0))
    x = batch.x * 0.25
    batch = batch._replace(x=x, y=x + 0.5)
    values = losses(returning(0.1, 0.2), batch)
    # |x + .1 - y| + |y + .2 - x| for half of the samples, |.2 + .1| twice for half, |.2| + |.1| for half.
    assert values["reconstruction"].item() == pytest.approx((0.4 + 0.7) * 2 / 4, abs=1e-5)
    assert values["cycle"].item() == pytest.approx((0.3 + 0.3) * 2 / 4, abs=1e-5)
    assert values["identity"].item() == pytest.approx((0.2 + 0.1) * 2 / 4, abs=1e-5)


@torch.no_grad()
def test_13_without_p_the_target_is_not_compared() -> None:
    """An untrusted y may change without changing the reconstruction; a trusted one may not (property 13)."""
    nets, batch = method(), small_batch((1, 0), (0, 1))
    usual = losses(nets, batch)["reconstruction"]
    for sample, unchanged in ((1, True), (0, False)):
        y = batch.y.clone()
        y[sample] = images(1, seed=99)[0]
        changed = losses(nets, batch._replace(y=y))["reconstruction"]
        assert torch.allclose(changed, usual, rtol=1e-6) == unchanged
    assert losses(nets, batch._replace(paired=torch.zeros(2)))["reconstruction"] == 0


@torch.no_grad()
def test_13_without_u_cycle_and_identity_are_exactly_zero_and_not_computed() -> None:
    """Property 13."""
    nets, batch = returning(0.1, 0.2), small_batch((1, 1), (0, 0))
    values = losses(nets, batch)
    assert values["cycle"].item() == values["identity"].item() == 0.0
    assert [cast(Returns, g).calls for g in (nets.generator, nets.generator_back)] == [1, 1]
    # With u on one sample only, the other one's images do not enter.
    half = batch._replace(unpaired=torch.tensor([0.0, 1.0]), n_unpaired=None)
    other = half._replace(x=torch.cat([images(1, seed=5), half.x[1:]]))
    real = method()
    for name in ("cycle", "identity"):
        torch.testing.assert_close(losses(real, half)[name], losses(real, other)[name], rtol=1e-5, atol=1e-7)
        assert losses(real, half)[name] > 0


@pytest.mark.parametrize("dx_fake", DX_FAKES)
def test_samples_without_u_are_left_out_of_the_passes_for_it_and_change_nothing(dx_fake: str) -> None:
    """True of layers that treat each sample by itself."""
    nets, batch = method(dx_fake=dx_fake), small_batch((1, 0, 1, 1), (1, 1, 0, 0))
    found = []
    for n_unpaired in (None, 2):
        values = losses(nets, batch._replace(n_unpaired=n_unpaired))
        gradients = torch.autograd.grad(values["total"], nets.generator_parameters())
        found.append((values, gradients))
    (whole, all_gradients), (part, gradients) = found
    assert whole["cycle"] > 0
    for name, value in whole.items():
        torch.testing.assert_close(part[name], value, rtol=1e-5, atol=1e-7)
    for one, other in zip(gradients, all_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    counting = returning(0.1, 0.2)
    losses(counting, batch._replace(n_unpaired=2))
    assert [cast(Returns, g).samples for g in (counting.generator, counting.generator_back)] == [8, 8]


@torch.no_grad()
def test_14_generators_that_return_their_input() -> None:
    """Cycle and identity are 0, reconstruction is 2 mean|x - y| (property 14)."""
    batch = small_batch((1, 1, 1), (1, 1, 1))
    values = losses(returning(), batch)
    assert values["cycle"].item() == values["identity"].item() == 0.0
    assert values["reconstruction"].item() == pytest.approx(
        2 * (batch.x - batch.y).abs().mean().item(), rel=1e-5
    )


@settings(max_examples=6, deadline=None)
@given(weights=st.lists(st.floats(0, 200), min_size=4, max_size=4))
@torch.no_grad()
def test_15_weights_enter_linearly(weights: list[float]) -> None:
    """The total is the weighted sum of the same terms (property 15)."""
    nets = method()
    batch = small_batch((1, 0), (0, 1))
    usual = losses(nets, batch)
    scaled: dict[str, Any] = dict(zip(TERMS, weights, strict=True))
    nets.objective = SemiPairedObjective(**scaled)
    weighted = losses(nets, batch)
    expected = sum(weight * usual[name].item() for weight, name in zip(weights, TERMS, strict=True))
    assert weighted["total"].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_papers_weights_are_the_default() -> None:
    config = SemiPairedObjective()
    assert [getattr(config, name) for name in TERMS] == [1, 150, 10, 10]


def test_11_real_logits_are_constants_to_the_generators() -> None:
    """No gradient runs from the generators' loss through the critic into the real images (property 11)."""
    nets = method(**FORWARD)
    batch = small_batch((1,), (0,))
    batch.y.requires_grad_()
    batch.x.requires_grad_()
    nets.adversarial_loss(nets.translate(batch), batch).backward()
    assert batch.y.grad is None
    assert batch.x.grad is not None
    assert batch.x.grad.any()


def test_11_the_discriminators_loss_reaches_no_generator() -> None:
    """Fakes are detached in the discriminators' step (property 11)."""
    nets, batch = method(), small_batch((1, 0), (0, 1))
    critics_loss(nets, batch).backward()
    assert all(p.grad is None for p in nets.generator_parameters())
    assert all(p.grad is not None and p.grad.any() for p in nets.discriminator_parameters() if p.ndim > 1)


@torch.no_grad()
def test_each_critic_compares_images_of_its_own_domain() -> None:
    """D_Y sees y and G_XY(x), D_X sees x and G_YX(y)."""
    nets, batch = method(), small_batch((1,), (1,))
    seen: dict[str, list[Tensor]] = {"d_y": [], "d_x": []}
    for name, images_seen in seen.items():
        getattr(nets, name).register_forward_pre_hook(
            lambda _, arguments, to=images_seen: to.append(arguments[0])
        )
    fakes = nets.translate(batch)
    nets.discriminator_losses(fakes, batch)
    assert fakes.x is not None
    for name, real, fake in (("d_y", batch.y, fakes.y), ("d_x", batch.x, fakes.x)):
        assert torch.equal(seen[name][0], real)
        assert torch.equal(seen[name][1], fake)


@torch.no_grad()
def test_a_better_fake_costs_the_generator_less_and_the_critic_more() -> None:
    nets, batch = method(**FORWARD), small_batch((1,), (0,))
    nets.d_y = cast(PatchDiscriminator, Brightness())
    worse, better = Fakes(batch.y - 0.5, None), Fakes(batch.y + 0.5, None)
    assert nets.adversarial_loss(better, batch) < nets.adversarial_loss(worse, batch)
    assert nets.discriminator_losses(better, batch) > nets.discriminator_losses(worse, batch)


@torch.no_grad()
def test_weights_of_defects_scale_each_samples_reconstruction() -> None:
    batch = small_batch((1, 1, 0), (0, 0, 0))
    fakes = Fakes(batch.y + torch.tensor([0.1, 0.2, 0.4])[:, None, None, None], None)
    weights = torch.tensor([2.0, 5.0, 1.0])
    balanced = SemiPaired(small_config(), SMALL_CRITIC, SemiPairedObjective(**FORWARD), weights)
    weighted = balanced.reconstruction_loss(fakes, batch)
    assert weighted.item() == pytest.approx((0.1 * 2 + 0.2 * 5) / 3, rel=1e-5)


def test_only_trained_networks_exist() -> None:
    both, forward = method(), method(**FORWARD)
    assert len(list(both.children())) == 4
    assert [name for name, _ in forward.named_children()] == ["generator", "d_y"]
    assert method(**NO_CRITICS).discriminator_parameters() == []
    for nets in (both, forward):
        parts = nets.generator_parameters() + nets.discriminator_parameters()
        assert {id(p) for p in parts} == {id(p) for p in nets.parameters()}


@torch.no_grad()
def test_forward_only_has_the_forward_half_of_each_term() -> None:
    nets, batch = method(**FORWARD), small_batch((1, 1), (1, 1))
    nets.generator = Returns(0.1)
    values = losses(nets, batch)
    assert values["reconstruction"].item() == pytest.approx(
        (batch.x + 0.1 - batch.y).abs().mean().item(), rel=1e-5
    )
    assert values["identity"].item() == pytest.approx(0.1, rel=1e-4)
    assert values["cycle"].item() == 0.0
    assert values["total"].isfinite()


@pytest.mark.parametrize("dx_fake", DX_FAKES)
@torch.no_grad()
def test_dx_fake_decides_what_d_x_compares_with_x(dx_fake: str) -> None:
    """D_X compares with G_YX(y), G_YX(G_XY(x)) or both; with both, with half of each game's loss."""
    nets, batch = method(dx_fake=dx_fake), small_batch((1, 1), (1, 1))
    seen: list[Tensor] = []
    assert nets.d_x is not None
    assert nets.generator_back is not None
    nets.d_x.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    labels = (batch.group, batch.type_)
    mirror = nets.generator_back(batch.y, *labels)
    cycle = nets.generator_back(nets.generator(batch.x, *labels), *labels)
    expected = {"mirror": [mirror], "cycle": [cycle], "both": [mirror, cycle]}[dx_fake]
    values, fakes = nets.generator_losses(batch)
    assert all(torch.equal(a, b) for a, b in zip(seen, [batch.x, *expected], strict=True))
    games = [relativistic_generator_loss(nets.d_x(batch.x), nets.d_x(fake)).mean() for fake in expected]
    d_y = cast(PatchDiscriminator, nets.d_y)
    forward = relativistic_generator_loss(d_y(batch.y), d_y(nets.generator(batch.x, *labels))).mean()
    torch.testing.assert_close(values["adversarial"], forward + torch.stack(games).mean())
    critics = [relativistic_discriminator_loss(nets.d_x(batch.x), nets.d_x(fake)).mean() for fake in expected]
    forward = relativistic_discriminator_loss(d_y(batch.y), d_y(fakes.y)).mean()
    torch.testing.assert_close(nets.discriminator_losses(fakes, batch), forward + torch.stack(critics).mean())


@pytest.mark.parametrize(
    ("dx_fake", "unpaired", "passes"),
    [
        ("mirror", (0, 0), (1, 1)),
        ("mirror", (0, 1), (3, 3)),
        ("cycle", (0, 0), (1, 2)),
        ("cycle", (0, 1), (3, 3)),
    ],
)
@torch.no_grad()
def test_unused_options_make_no_further_passes(
    dx_fake: str, unpaired: tuple[int, ...], passes: tuple[int, int]
) -> None:
    """Count forward and backward passes of a generators' step; a cycled image is made once for critic and cycle."""
    nets = method(dx_fake=dx_fake)
    nets.generator, nets.generator_back = Returns(0.1), Returns(0.2)
    losses(nets, small_batch((1, 1), unpaired))
    assert (cast(Returns, nets.generator).calls, cast(Returns, nets.generator_back).calls) == passes


@torch.no_grad()
def test_the_average_game_replaces_both_players_losses() -> None:
    nets, batch = method(relativistic="average", **FORWARD), small_batch((1, 1, 1), (0, 0, 0))
    d_y = cast(PatchDiscriminator, nets.d_y)
    values, fakes = nets.generator_losses(batch)
    real, fake = d_y(batch.y), d_y(fakes.y)
    torch.testing.assert_close(values["adversarial"], average_generator_loss(real, fake).mean())
    torch.testing.assert_close(
        nets.discriminator_losses(fakes, batch), average_discriminator_loss(real, fake).mean()
    )


@pytest.mark.parametrize("condition", ["concat", "projection"])
@torch.no_grad()
def test_conditioned_critics_judge_the_type_too(condition: str) -> None:
    critic = DiscriminatorConfig(width=4, n_layers=1, condition=condition)
    nets = SemiPaired(small_config(), critic, SemiPairedObjective())
    batch = small_batch((1, 1), (1, 1))
    fakes = nets.generator_losses(batch)[1]
    usual = nets.discriminator_losses(fakes, batch)
    assert nets.discriminator_losses(fakes, batch._replace(type_=(batch.type_ + 1) % 3)) != usual
    with pytest.raises(ConfigurationError, match="needs labels"):
        SemiPaired(small_config(n_types=0), critic, SemiPairedObjective())


#: A geometry head needs some pixels after its strides.
MOVED_SIDE = 32


def wide_batch(paired: tuple[int, ...], unpaired: tuple[int, ...]) -> Batch:
    count = len(paired)
    return small_batch(paired, unpaired)._replace(
        x=images(count, MOVED_SIDE), y=images(count, MOVED_SIDE, seed=1)
    )


def truth_of(count: int, changed: tuple[int, ...], moved: tuple[int, ...]) -> Truth:
    side = MOVED_SIDE
    random = torch.Generator().manual_seed(5)
    return Truth(
        (torch.rand(count, 1, side, side, generator=random) > 0.5).float(),
        torch.eye(2, 3).repeat(count, 1, 1) + 0.1,
        torch.tensor(changed, dtype=torch.float32),
        torch.tensor(moved, dtype=torch.float32),
    )


def with_truth(**objective: Any) -> SemiPaired:
    config = small_config(head="blend", geometry="affine", geometric_groups=(1,))
    return SemiPaired(config, SMALL_CRITIC, SemiPairedObjective(**FORWARD, **objective))


def test_the_terms_of_the_ground_truth_by_hand() -> None:
    of, batch = with_truth(matte=2.0, geometry=3.0), wide_batch((1, 1, 1), (0, 0, 0))
    batch = batch._replace(truth=truth_of(3, (1, 0, 1), (0, 0, 1)))
    values = losses(of, batch)
    answer = cast(Generator, of.generator).answer(batch.x, batch.group, batch.type_)
    assert batch.truth is not None
    assert answer.matte is not None
    assert answer.theta is not None
    entropy = -torch.where(batch.truth.changed > 0, answer.matte, 1 - answer.matte).log().flatten(1).mean(1)
    forced = cast(Generator, of.generator).render(
        batch.x, batch.group, answer._replace(matte=batch.truth.changed)
    )
    expected = entropy + (forced - batch.y).abs().flatten(1).mean(1)
    torch.testing.assert_close(values["matte"], (expected[0] + expected[2]) / 3)
    distance = (answer.theta[2] - batch.truth.theta[2]).abs().mean()
    torch.testing.assert_close(values["geometry"], distance / 3)
    weighted = 1 * values["adversarial"] + 150 * values["reconstruction"] + 2 * values["matte"]
    weighted = weighted + 3 * values["geometry"]
    torch.testing.assert_close(values["total"], weighted + 10 * values["identity"])
    # The other terms use the images of the same pass.
    silent = with_truth(matte=2.0, geometry=3.0)
    silent.load_state_dict(of.state_dict())
    assert torch.equal(losses(silent, batch._replace(truth=None))["reconstruction"], values["reconstruction"])


def test_without_weight_or_truth_there_are_no_such_terms() -> None:
    batch = wide_batch((1, 1), (0, 0))
    assert "matte" not in losses(with_truth(matte=1.0), batch)
    assert "geometry" not in losses(with_truth(), batch._replace(truth=truth_of(2, (1, 1), (1, 1))))


def test_a_weight_without_effect_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs head 'blend'"):
        method(matte=1.0)
    with pytest.raises(ConfigurationError, match="needs geometry 'affine'"):
        SemiPaired(small_config(head="blend"), SMALL_CRITIC, SemiPairedObjective(geometry=1.0))
