"""The baseline Pix2Pix (Isola et al., 2017): a supervised generator, and a discriminator that sees pairs."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.config import DiscriminatorConfig, GeneratorConfig, require
from model.discriminator import PatchDiscriminator
from model.generator import build_generator
from model.losses import cross_entropy, l1
from model.method import Batch, Fakes, Method, mean_over_samples


@dataclass(frozen=True)
class Pix2PixObjective:
    """Weights of the terms; the defaults are Pix2Pix's."""

    adversarial: float = 1.0
    reconstruction: float = 100.0

    def __post_init__(self) -> None:
        require(self.adversarial > 0, "pix2pix is adversarial: the adversarial weight must be positive")
        require(self.reconstruction >= 0, "loss weight reconstruction must not be negative")

    @property
    def uses_pairs(self) -> bool:
        """True: both terms learn from trusted pairs."""
        return True

    @property
    def uses_unpaired(self) -> bool:
        """False: no term learns from x and y that do not belong together."""
        return False


class Pix2Pix(Method):
    """G_XY and a discriminator of (x, y) and (x, G_XY(x)) as six channels. The losses use trusted pairs only.

    Networks, losses and steps are those of the authors' PyTorch code, including batch normalisation and the update of
    the discriminator before the generator. Batch normalisation makes samples depend on each other, within a batch, part
    of a batch or process; with the authors' batch size of 1 they do not. There are four differences. The architecture
    `resnet` is CycleGAN's, without batch normalisation and dropout; a bundle's answer has no dropout; images are
    neither cropped nor mirrored unless asked for; and the rate falls by step.
    """

    discriminators_first = True

    def __init__(
        self, generator: GeneratorConfig, discriminator: DiscriminatorConfig, objective: Pix2PixObjective
    ) -> None:
        super().__init__()
        self.objective = objective
        self.uses_pairs, self.uses_unpaired = objective.uses_pairs, objective.uses_unpaired
        self.generator = build_generator(generator)
        self.discriminator = PatchDiscriminator(discriminator, inputs=6, batch_norm=True)

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the generator."""
        return list(self.generator.parameters())

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the discriminator."""
        return list(self.discriminator.parameters())

    def translate(self, batch: Batch) -> Fakes:
        """Run the generator on the batch; the fakes keep their graph."""
        return Fakes(self.generator(batch.x, batch.group, batch.type_))

    def generator_losses(self, batch: Batch, made: Fakes | None = None) -> tuple[dict[str, Tensor], Fakes]:
        """Return the terms adversarial (cross-entropy), reconstruction (L1) and `total`."""
        fakes = self.translate(batch) if made is None else made
        fake = fakes.y
        logits = self.discriminator(torch.cat([batch.x, fake], dim=1))
        terms = {
            "adversarial": mean_over_samples(cross_entropy(logits, real=True), batch.paired),
            "reconstruction": mean_over_samples(l1(fake, batch.y), batch.paired),
        }
        total = (
            self.objective.adversarial * terms["adversarial"]
            + self.objective.reconstruction * terms["reconstruction"]
        )
        return {**terms, "total": total}, fakes.detach()

    def discriminator_losses(self, fakes: Fakes, batch: Batch) -> Tensor:
        """Return half the sum of the cross-entropies of real and generated pairs."""
        real = cross_entropy(self.discriminator(torch.cat([batch.x, batch.y], dim=1)), real=True)
        fake = cross_entropy(self.discriminator(torch.cat([batch.x, fakes.y], dim=1)), real=False)
        return mean_over_samples((real + fake) / 2, batch.paired)
