"""The baseline CycleGAN (Zhu et al., 2017): two generators that learn from unpaired images only."""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from model.baselines.image_pool import ImagePool
from model.config import DiscriminatorConfig, GeneratorConfig, require
from model.discriminator import PatchDiscriminator
from model.generator import build_generator
from model.losses import l1, least_squares
from model.method import Batch, Fakes, Method, mean_over_samples, parameters_of


@dataclass(frozen=True)
class CycleGANObjective:
    """Weights of the terms; the defaults are CycleGAN's."""

    adversarial: float = 1.0
    cycle: float = 10.0
    identity: float = 5.0  # 0 saves two translations, but colours may shift
    # Earlier fakes that each discriminator also sees; 0 for none. Every worker has its own pools.
    pool_size: int = 50

    def __post_init__(self) -> None:
        require(self.adversarial > 0, "cyclegan is adversarial: the adversarial weight must be positive")
        for name in ("cycle", "identity", "pool_size"):
            require(getattr(self, name) >= 0, f"{name} must not be negative")

    @property
    def uses_pairs(self) -> bool:
        """True: the images of a pair are learned from like any others."""
        return True

    @property
    def uses_unpaired(self) -> bool:
        """True: every term learns from unpaired images."""
        return True


class CycleGAN(Method):
    """G_XY (`generator`), G_YX, D_X and D_Y. The masks p and u are ignored: x and y are two sets of images.

    Networks, losses and steps are those of the authors' PyTorch code, with two differences: images are neither cropped
    nor mirrored unless asked for, and the rate falls by step. `state_dict` holds this process's pools.
    """

    def __init__(
        self, generator: GeneratorConfig, discriminator: DiscriminatorConfig, objective: CycleGANObjective
    ) -> None:
        super().__init__()
        self.objective = objective
        self.uses_pairs, self.uses_unpaired = objective.uses_pairs, objective.uses_unpaired
        self.generator, self.generator_back = build_generator(generator), build_generator(generator)
        self.d_y, self.d_x = PatchDiscriminator(discriminator), PatchDiscriminator(discriminator)
        self.pool_y, self.pool_x = ImagePool(objective.pool_size), ImagePool(objective.pool_size)

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of both generators."""
        return parameters_of(self.generator, self.generator_back)

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of both discriminators."""
        return parameters_of(self.d_y, self.d_x)

    def translate(self, batch: Batch) -> Fakes:
        """Run each generator once on the batch; the fakes keep their graph."""
        labels = (batch.group, batch.type_)
        return Fakes(self.generator(batch.x, *labels), self.generator_back(batch.y, *labels))

    def generator_losses(self, batch: Batch, made: Fakes | None = None) -> tuple[dict[str, Tensor], Fakes]:
        """Return terms adversarial (least squares), cycle, identity and `total`, each summed over both directions."""
        labels, weights = (batch.group, batch.type_), self.objective
        fakes = self.translate(batch) if made is None else made
        fake_y, fake_x = fakes.y, cast(Tensor, fakes.x)
        fooling = least_squares(self.d_y(fake_y), 1.0) + least_squares(self.d_x(fake_x), 1.0)
        terms = {"adversarial": mean_over_samples(fooling)}
        terms["cycle"] = terms["identity"] = batch.x.new_zeros(())
        if weights.cycle:
            back_x, back_y = self.generator_back(fake_y, *labels), self.generator(fake_x, *labels)
            terms["cycle"] = mean_over_samples(l1(back_x, batch.x) + l1(back_y, batch.y))
        if weights.identity:
            same_y, same_x = self.generator(batch.y, *labels), self.generator_back(batch.x, *labels)
            terms["identity"] = mean_over_samples(l1(same_y, batch.y) + l1(same_x, batch.x))
        total = (
            weights.adversarial * terms["adversarial"]
            + weights.cycle * terms["cycle"]
            + weights.identity * terms["identity"]
        )
        return {**terms, "total": total}, fakes.detach()

    def discriminator_losses(self, fakes: Fakes, batch: Batch) -> Tensor:
        """Return half the least squares of real and of pooled generated images, summed over both discriminators.

        Each call puts the fakes into the pools.
        """
        if fakes.x is None:
            raise ValueError("CycleGAN's discriminators need fakes of both directions")
        total = batch.x.new_zeros(())
        for critic, pool, real, fake in (
            (self.d_y, self.pool_y, batch.y, fakes.y),
            (self.d_x, self.pool_x, batch.x, fakes.x),
        ):
            values = least_squares(critic(real), 1.0) + least_squares(critic(pool(fake)), 0.0)
            total = total + mean_over_samples(values) / 2
        return total
