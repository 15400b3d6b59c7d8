"""The semi-paired objective of both generators and both discriminators (Li et al., 2022; method section 3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.config import DiscriminatorConfig, GeneratorConfig, require, require_choice
from model.discriminator import PatchDiscriminator
from model.generator import Generator
from model.losses import discriminator_loss, generator_adversarial_loss, l1

DIRECTIONS = ("both", "forward")
TASK_BALANCES = ("none", "baseline")


class Batch(NamedTuple):
    """Training samples. x, y: (B, 3, S, S) float RGB in [-1, 1]; group, type_: (B,) int64.

    paired (p) and unpaired (u): (B,) float 0 or 1. p: x and y are a trusted pair and enter the reconstruction term;
    u: the sample enters cycle and identity. A sample may be both. Where p is 0, y is a real image of the same task.
    """

    x: Tensor
    y: Tensor
    group: Tensor
    type_: Tensor
    paired: Tensor
    unpaired: Tensor


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the terms; the defaults are the paper's."""

    adversarial: float = 1.0  # lambda 1; 0 drops the discriminators: a start on a small machine
    reconstruction: float = 150.0  # lambda 2
    cycle: float = 10.0  # lambda 3
    identity: float = 10.0  # lambda 4
    # `forward` trains G_XY alone: a fraction of the cost, for when there is no cycle to close.
    directions: str = "both"
    # `baseline` divides each sample's reconstruction by its task's do-nothing L1, so that faint defects count.
    task_balance: str = "none"

    def __post_init__(self) -> None:
        for name in ("adversarial", "reconstruction", "cycle", "identity"):
            require(getattr(self, name) >= 0, f"loss weight {name} must not be negative")
        require_choice("directions", self.directions, DIRECTIONS)
        require_choice("task_balance", self.task_balance, TASK_BALANCES)
        require(
            self.directions == "both" or self.cycle == 0,
            "directions='forward' trains no generator back, so the cycle weight must be 0",
        )


class Networks(nn.Module):
    """G_XY, G_YX, D_X and D_Y; with directions='forward' only G_XY and D_Y; D only where it is used."""

    def __init__(
        self, generator: GeneratorConfig, discriminator: DiscriminatorConfig, objective: ObjectiveConfig
    ) -> None:
        super().__init__()
        both, adversarial = objective.directions == "both", objective.adversarial > 0
        self.g_xy = Generator(generator)
        self.g_yx = Generator(generator) if both else None
        self.d_y = PatchDiscriminator(discriminator) if adversarial else None
        self.d_x = PatchDiscriminator(discriminator) if adversarial and both else None

    def generators(self) -> list[Generator]:
        """The generators that exist, forward first."""
        return [g for g in (self.g_xy, self.g_yx) if g is not None]

    def discriminators(self) -> list[PatchDiscriminator]:
        """The discriminators that exist."""
        return [d for d in (self.d_y, self.d_x) if d is not None]


class Fakes(NamedTuple):
    """What the generators made of a batch: y' = G_XY(x) and x' = G_YX(y), each (B, 3, S, S) in [-1, 1]."""

    y: Tensor
    x: Tensor | None


def translate(networks: Networks, batch: Batch) -> Fakes:
    """Run the generators once each on the batch."""
    fake_y = networks.g_xy(batch.x, batch.group, batch.type_)
    fake_x = networks.g_yx(batch.y, batch.group, batch.type_) if networks.g_yx is not None else None
    return Fakes(fake_y, fake_x)


def _mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """(1/B) sum of mask * value: divided by B, not by the mask's sum, so that a batch is the mean of its samples."""
    return values.mean() if mask is None else (values * mask).sum() / len(values)


def reconstruction_loss(fakes: Fakes, batch: Batch, task_weight: Tensor | None) -> Tensor:
    """|G_XY(x) - y| + |G_YX(y) - x| over trusted pairs, times the task's weight (n_types,) where given."""
    values = l1(fakes.y, batch.y)
    if fakes.x is not None:
        values = values + l1(fakes.x, batch.x)
    if task_weight is not None:
        values = values * task_weight[batch.type_]
    return _mean(values, batch.paired)


def cycle_loss(networks: Networks, fakes: Fakes, batch: Batch) -> Tensor:
    """|G_YX(G_XY(x)) - x| + |G_XY(G_YX(y)) - y| over samples with u set."""
    if networks.g_yx is None or fakes.x is None:
        return batch.x.new_zeros(())
    back_x = networks.g_yx(fakes.y, batch.group, batch.type_)
    back_y = networks.g_xy(fakes.x, batch.group, batch.type_)
    return _mean(l1(back_x, batch.x) + l1(back_y, batch.y), batch.unpaired)


def identity_loss(networks: Networks, batch: Batch) -> Tensor:
    """|G_XY(y) - y| + |G_YX(x) - x| over samples with u set: what is clean already is returned unchanged."""
    values = l1(networks.g_xy(batch.y, batch.group, batch.type_), batch.y)
    if networks.g_yx is not None:
        values = values + l1(networks.g_yx(batch.x, batch.group, batch.type_), batch.x)
    return _mean(values, batch.unpaired)


def _games(
    networks: Networks, fakes: Fakes, batch: Batch
) -> Iterator[tuple[PatchDiscriminator, Tensor, Tensor]]:
    """Each discriminator that exists, with the real and the generated images it compares (same index, one pair)."""
    if networks.d_y is not None:
        yield networks.d_y, batch.y, fakes.y
    if networks.d_x is not None and fakes.x is not None:
        yield networks.d_x, batch.x, fakes.x


def adversarial_loss(networks: Networks, fakes: Fakes, batch: Batch) -> Tensor:
    """The generators' relativistic loss in both directions. Every sample enters; real logits are constants."""
    total = batch.x.new_zeros(())
    for critic, real, fake in _games(networks, fakes, batch):
        with torch.no_grad():
            real_logits = critic(real)
        total = total + _mean(generator_adversarial_loss(real_logits, critic(fake)))
    return total


def generator_losses(
    networks: Networks,
    fakes: Fakes,
    batch: Batch,
    config: ObjectiveConfig,
    task_weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """Unweighted terms and their weighted sum `total`. Passes that no sample or weight needs are skipped."""
    zero = batch.x.new_zeros(())
    cyclic = bool(batch.unpaired.any())
    terms = {
        "adversarial": adversarial_loss(networks, fakes, batch) if config.adversarial else zero,
        "reconstruction": reconstruction_loss(fakes, batch, task_weight) if config.reconstruction else zero,
        "cycle": cycle_loss(networks, fakes, batch) if cyclic and config.cycle else zero,
        "identity": identity_loss(networks, batch) if cyclic and config.identity else zero,
    }
    total = sum((getattr(config, name) * value for name, value in terms.items()), zero)
    return {**terms, "total": total}


def discriminator_losses(networks: Networks, fakes: Fakes, batch: Batch) -> Tensor:
    """Sum of both discriminators' relativistic losses; fakes are detached here, so no generator gets a gradient."""
    total = batch.x.new_zeros(())
    for critic, real, fake in _games(networks, fakes, batch):
        total = total + _mean(discriminator_loss(critic(real), critic(fake.detach())))
    return total
