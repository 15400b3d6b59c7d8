"""The semi-paired method: two conditional generators, two relativistic discriminators (Li et al., 2022)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from model.config import DiscriminatorConfig, GeneratorConfig, require, require_choice
from model.discriminator import PatchDiscriminator
from model.editing import EditingGenerator
from model.generator import build_generator
from model.losses import (
    average_discriminator_loss,
    average_generator_loss,
    l1,
    matte_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
    theta_loss,
)
from model.method import Batch, Fakes, Method, Truth, mean_over_samples, parameters_of

DIRECTIONS = ("both", "forward")
TASK_BALANCES = ("none", "baseline")
DX_FAKES = ("mirror", "cycle", "both")

_Loss = Callable[[Tensor, Tensor], Tensor]
#: By name: the losses of the discriminator and of the generator, given real and generated logits.
RELATIVISTIC: dict[str, tuple[_Loss, _Loss]] = {
    "pairwise": (relativistic_discriminator_loss, relativistic_generator_loss),
    "average": (average_discriminator_loss, average_generator_loss),
}


@dataclass(frozen=True)
class SemiPairedObjective:
    """Weights of the terms; the defaults are the paper's."""

    adversarial: float = 1.0  # lambda 1; 0 drops the discriminators, for a start on a small machine
    reconstruction: float = 150.0  # lambda 2
    cycle: float = 10.0  # lambda 3
    identity: float = 10.0  # lambda 4
    # Weight of the truth about a blended defect: the matte's cross-entropy with the changed pixels, and the
    # reconstruction by the content under the true matte; extension, not in the paper. Use .5 for defects that
    # `train.py` makes itself; the truth is known only for these.
    matte: float = 0.0
    # Weight of the distance between the geometry head's map and the synthesis's true map; extension.
    geometry: float = 0.0
    # `forward` trains only G_XY at a fraction of the cost, for trainings without a cycle.
    directions: str = "both"
    # `baseline` divides each sample's reconstruction by its defect's do-nothing L1, so that faint defects count.
    task_balance: str = "none"
    # The generated images that D_X compares with x. `mirror`: G_YX(y), as the equations' symmetry suggests. `cycle`:
    # G_YX(G_XY(x)), as the paper's text says, for defects whose y contains too little of x to invent one. `both`: half
    # each. `cycle` and `both` translate every sample forth and back, also those without u.
    dx_fake: str = "mirror"
    # `pairwise` is the paper's. `average` compares with the mean of the other side: steadier for batches of 8 and more,
    # if real and generated images of one index have little in common. It couples a batch's samples (see the loss).
    relativistic: str = "pairwise"
    # False is the ablation "w/o unpaired": u counts as 0 everywhere, and samples that are not trusted pairs are left
    # out.
    use_unpaired: bool = True

    def __post_init__(self) -> None:
        for name in ("adversarial", "reconstruction", "cycle", "identity", "matte", "geometry"):
            require(getattr(self, name) >= 0, f"loss weight {name} must not be negative")
        require_choice("directions", self.directions, DIRECTIONS)
        require_choice("task_balance", self.task_balance, TASK_BALANCES)
        require_choice("dx_fake", self.dx_fake, DX_FAKES)
        require_choice("relativistic", self.relativistic, tuple(RELATIVISTIC))
        require(
            self.directions == "both" or self.cycle == 0,
            "directions='forward' trains no generator back, so the cycle weight must be 0",
        )
        require(
            self.dx_fake == "mirror" or (self.directions == "both" and self.adversarial > 0),
            f"dx_fake={self.dx_fake!r} needs D_X: directions='both' and an adversarial weight",
        )

    @property
    def uses_pairs(self) -> bool:
        """True if any term learns from trusted pairs."""
        return self.reconstruction > 0 or self.uses_truth or self._uses_any()

    @property
    def uses_truth(self) -> bool:
        """True if any term learns from the ground truth of synthetic defects."""
        return self.matte > 0 or self.geometry > 0

    @property
    def uses_unpaired(self) -> bool:
        """True if any term learns from samples that are not trusted pairs."""
        return self.use_unpaired and self._uses_any()

    def _uses_any(self) -> bool:
        return self.adversarial > 0 or self.cycle > 0 or self.identity > 0


class SemiPaired(Method):
    """G_XY (`generator`), G_YX, D_X and D_Y; with directions='forward' only G_XY and D_Y; D only if it is used."""

    defect_weight: Tensor | None

    def __init__(
        self,
        generator: GeneratorConfig,
        discriminator: DiscriminatorConfig,
        objective: SemiPairedObjective,
        defect_weight: Tensor | None = None,
    ) -> None:
        """defect_weight: (n_types,) factors of the reconstruction term, or None."""
        super().__init__()
        require(
            not objective.matte or generator.head == "blend",
            "a matte weight needs head 'blend': the direct head has no matte",
        )
        require(
            not objective.geometry or generator.geometry != "none",
            "a geometry weight needs geometry 'affine': nothing else moves the image",
        )
        self.objective = objective
        self.uses_pairs, self.uses_unpaired = objective.uses_pairs, objective.uses_unpaired
        both, adversarial = objective.directions == "both", objective.adversarial > 0
        self.generator = build_generator(generator)
        self.generator_back = build_generator(generator) if both else None
        # The type determines the group, so it alone conditions a discriminator.
        self.d_y = PatchDiscriminator(discriminator, generator.n_types) if adversarial else None
        self.d_x = PatchDiscriminator(discriminator, generator.n_types) if adversarial and both else None
        self._discriminator_loss, self._generator_loss = RELATIVISTIC[objective.relativistic]
        # Every training measures these from the data, so they are not part of the state.
        self.register_buffer("defect_weight", defect_weight, persistent=False)

    def generator_parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters of the generators that exist."""
        return parameters_of(self.generator, self.generator_back)

    def discriminator_parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters of the discriminators that exist."""
        return parameters_of(self.d_y, self.d_x)

    def translate(self, batch: Batch) -> Fakes:
        """Run each generator once on the batch; the fakes keep their graph."""
        return self._back(self.generator(batch.x, batch.group, batch.type_), batch)

    def _back(self, fake_y: Tensor, batch: Batch) -> Fakes:
        """Return G_XY's images together with G_YX's images of the batch."""
        if self.generator_back is None:
            return Fakes(fake_y)
        fake_x = self.generator_back(batch.y, batch.group, batch.type_)
        if self.objective.dx_fake == "mirror":
            return Fakes(fake_y, fake_x)
        return Fakes(fake_y, fake_x, self.generator_back(fake_y, batch.group, batch.type_))

    def _compared(self, batch: Batch, truth: Truth) -> tuple[Fakes, dict[str, Tensor]]:
        """Return the fakes, and the terms matte and geometry: the distance of G_XY's answer to the ground truth."""
        # The objective uses a matte or a map, so the generator is one that has them.
        generator = cast(EditingGenerator, self.generator)
        answer = generator.answer(batch.x, batch.group, batch.type_)
        terms = {}
        if self.objective.matte and answer.matte is not None:
            values = matte_loss(answer.matte, truth.changed) + self._weighted(
                # Rendered with the true matte. Otherwise the content would not be learned where the matte is still
                # closed, and the matte stays closed where the content is wrong: faint marks were never learned.
                l1(generator.render(batch.x, batch.group, answer._replace(matte=truth.changed)), batch.y),
                batch,
            )
            terms["matte"] = mean_over_samples(values, truth.has_changed)
        if self.objective.geometry and answer.theta is not None:
            terms["geometry"] = mean_over_samples(theta_loss(answer.theta, truth.theta), truth.has_theta)
        return self._back(generator.render(batch.x, batch.group, answer), batch), terms

    def reconstruction_loss(self, fakes: Fakes, batch: Batch) -> Tensor:
        """Return |G_XY(x) - y| + |G_YX(y) - x| over trusted pairs, times the defect's weight if there are weights."""
        values = l1(fakes.y, batch.y)
        if fakes.x is not None:
            values = values + l1(fakes.x, batch.x)
        return mean_over_samples(self._weighted(values, batch), batch.paired)

    def _weighted(self, errors: Tensor, batch: Batch) -> Tensor:
        """Return errors of samples (B,), times their defect's weight if there are weights."""
        return errors if self.defect_weight is None else errors * self.defect_weight[batch.type_]

    def cycle_loss(self, fakes: Fakes, batch: Batch) -> Tensor:
        """Return |G_YX(G_XY(x)) - x| + |G_XY(G_YX(y)) - y| over samples with u set."""
        if self.generator_back is None or fakes.x is None:
            return batch.x.new_zeros(())
        part = batch.may_be_unpaired()
        n = len(part.x)
        back_x = (
            fakes.back_x[:n]
            if fakes.back_x is not None
            else self.generator_back(fakes.y[:n], part.group, part.type_)
        )
        back_y = self.generator(fakes.x[:n], part.group, part.type_)
        values = l1(back_x, part.x) + l1(back_y, part.y)
        return mean_over_samples(values, part.unpaired, len(batch.x))

    def identity_loss(self, batch: Batch) -> Tensor:
        """Return |G_XY(y) - y| + |G_YX(x) - x| over samples with u set: clean images must stay unchanged."""
        part = batch.may_be_unpaired()
        values = l1(self.generator(part.y, part.group, part.type_), part.y)
        if self.generator_back is not None:
            values = values + l1(self.generator_back(part.x, part.group, part.type_), part.x)
        return mean_over_samples(values, part.unpaired, len(batch.x))

    def _games(self, fakes: Fakes, batch: Batch) -> Iterator[tuple[PatchDiscriminator, Tensor, list[Tensor]]]:
        """Yield each discriminator with its real images, and the generated ones to compare them with by index."""
        if self.d_y is not None:
            yield self.d_y, batch.y, [fakes.y]
        if self.d_x is not None:
            candidates = {"mirror": (fakes.x,), "cycle": (fakes.back_x,), "both": (fakes.x, fakes.back_x)}
            chosen = candidates[self.objective.dx_fake]
            yield self.d_x, batch.x, [fake for fake in chosen if fake is not None]

    def adversarial_loss(self, fakes: Fakes, batch: Batch) -> Tensor:
        """Return the generators' relativistic loss of all samples in both directions; real logits are constants."""
        total = batch.x.new_zeros(())
        for critic, real, made in self._games(fakes, batch):
            with torch.no_grad():
                real_logits = critic(real, batch.type_)
            for fake in made:
                values = self._generator_loss(real_logits, critic(fake, batch.type_))
                total = total + mean_over_samples(values) / len(made)
        return total

    def generator_losses(self, batch: Batch, made: Fakes | None = None) -> tuple[dict[str, Tensor], Fakes]:
        """Return the terms adversarial, reconstruction, cycle, identity and `total`; matte and geometry if weighted.

        Passes that no term needs are skipped.
        """
        weights, zero = self.objective, batch.x.new_zeros(())
        of_truth: dict[str, Tensor] = {}
        if made is not None:
            fakes = made
        elif batch.truth is not None and weights.uses_truth:
            fakes, of_truth = self._compared(batch, batch.truth)
        else:
            fakes = self.translate(batch)
        cyclic = weights.use_unpaired and batch.n_unpaired != 0
        terms = {
            "adversarial": self.adversarial_loss(fakes, batch) if weights.adversarial else zero,
            "reconstruction": self.reconstruction_loss(fakes, batch) if weights.reconstruction else zero,
            "cycle": self.cycle_loss(fakes, batch) if cyclic and weights.cycle else zero,
            "identity": self.identity_loss(batch) if cyclic and weights.identity else zero,
            **of_truth,
        }
        total = sum((getattr(weights, name) * value for name, value in terms.items()), zero)
        return {**terms, "total": total}, fakes.detach()

    def discriminator_losses(self, fakes: Fakes, batch: Batch) -> Tensor:
        """Return the sum of both discriminators' relativistic losses."""
        total = batch.x.new_zeros(())
        for critic, real, made in self._games(fakes, batch):
            real_logits = critic(real, batch.type_)
            for fake in made:
                values = self._discriminator_loss(real_logits, critic(fake, batch.type_))
                total = total + mean_over_samples(values) / len(made)
        return total
