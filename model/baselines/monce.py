"""The baseline MoNCE (Zhan et al., 2022; its CUT part): one generator, contrast between patches, no cycle."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.baselines.contrast import patches, positions, unit, weighted_contrast
from model.baselines.resnet_blur import BlurGenerator, initialise_xavier
from model.config import DiscriminatorConfig, GeneratorConfig, require, require_choice
from model.discriminator import PatchDiscriminator
from model.losses import least_squares
from model.method import Batch, Fakes, Method, mean_over_samples, parameters_of

WEIGHTINGS = ("hard", "easy")
NCE_TARGETS = ("x", "y")
#: Width of the networks per tap and of the patches' vectors.
EMBEDDING = 256


@dataclass(frozen=True)
class MoNCEObjective:
    """Weights and constants; the defaults are those of the released code."""

    adversarial: float = 1.0
    nce: float = 1.0
    # `hard` gives similar negatives more weight; `easy` less, which the paper proposes for paired data.
    weighting: str = "hard"
    # Regularisation of the transport. Smaller values separate hard and easy negatives more; the authors also used .1.
    epsilon: float = 1.0
    # Weight of all negatives together, relative to the positive.
    gamma: float = 1.0
    temperature: float = 0.07
    # Patches per image and tap. Fewer save memory: the transport is quadratic in their number.
    n_patches: int = 256
    # True treats the transport as constant: this saves the backward pass through it, and hardly changes the result.
    detach_weights: bool = False
    # The image whose patches G(x)'s must resemble. `y` (an extension) uses the target if the pair is trusted.
    nce_target: str = "x"

    def __post_init__(self) -> None:
        require(self.adversarial > 0, "monce is adversarial: the adversarial weight must be positive")
        require(self.nce >= 0, "loss weight nce must not be negative")
        for name in ("epsilon", "gamma", "temperature"):
            require(getattr(self, name) > 0, f"{name} must be positive")
        require(self.n_patches >= 2, f"n_patches is {self.n_patches}; use 2 or more")
        require_choice("weighting", self.weighting, WEIGHTINGS)
        require_choice("nce_target", self.nce_target, NCE_TARGETS)

    @property
    def uses_pairs(self) -> bool:
        """True: the images of a pair are learned from like any others, and with nce_target='y' as a pair."""
        return True

    @property
    def uses_unpaired(self) -> bool:
        """True: every term learns from unpaired images."""
        return True


class PatchProjector(nn.Module):
    """Maps features of patches to unit vectors, with one network per tap: C -> 256 -> ReLU -> 256."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.taps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, EMBEDDING), nn.ReLU(), nn.Linear(EMBEDDING, EMBEDDING))
            for width in channels
        )
        self.apply(initialise_xavier)

    def forward(self, features: Sequence[Tensor], at: Sequence[Tensor]) -> list[Tensor]:
        """Return unit vectors (B, N, 256) float32 per tap, of features (B, C, h, w) at positions (N,)."""
        return [
            unit(project(patches(tap, chosen)).float())
            for project, tap, chosen in zip(self.taps, features, at, strict=True)
        ]


class MoNCE(Method):
    """G_XY, D_Y, and the networks that project patches. Labels are ignored.

    Networks, losses and steps are those of the released code's CUT part, whose discriminator is antialiased and is
    updated before the generator. There are three differences. Taps with fewer than `n_patches` positions weigh their
    negatives by their own number; images are neither cropped nor mirrored unless asked for; and the rate falls by step.
    """

    generator: BlurGenerator
    discriminators_first = True

    def __init__(
        self, generator: GeneratorConfig, discriminator: DiscriminatorConfig, objective: MoNCEObjective
    ) -> None:
        super().__init__()
        self.objective = objective
        self.uses_pairs, self.uses_unpaired = objective.uses_pairs, objective.uses_unpaired
        self.generator = BlurGenerator(generator)
        self.discriminator = PatchDiscriminator(discriminator, antialiased=True)
        self.discriminator.apply(initialise_xavier)
        self.projector = PatchProjector(self.generator.tap_channels)

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the generator and of the projector."""
        return parameters_of(self.generator, self.projector)

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the discriminator."""
        return list(self.discriminator.parameters())

    def contrast(self, made: Tensor, keys: Sequence[Tensor]) -> Tensor:
        """Return the loss (B,) between patches of generated images (B, 3, S, S) and the taps `keys` of their origin.

        The loss is averaged over the taps. Query and key are taken at the same random positions, equal for the whole
        batch.
        """
        weights = self.objective
        queries = self.generator.taps(made)
        at = [positions(tap.shape[2] * tap.shape[3], weights.n_patches, tap.device) for tap in queries]
        with torch.no_grad():
            key_vectors = self.projector(keys, at)
        losses = [
            weighted_contrast(
                query,
                key,
                weighting=weights.weighting,
                epsilon=weights.epsilon,
                gamma=weights.gamma,
                temperature=weights.temperature,
                detach_weights=weights.detach_weights,
            )
            for query, key in zip(self.projector(queries, at), key_vectors, strict=True)
        ]
        return sum(losses[1:], losses[0]) / len(losses)

    def translate(self, batch: Batch) -> Fakes:
        """Run the generator on x; the fakes and the taps of x keep their graph."""
        fake, taps = self.generator.translate(batch.x)
        return Fakes(fake, taps=tuple(taps))

    def generator_losses(self, batch: Batch, made: Fakes | None = None) -> tuple[dict[str, Tensor], Fakes]:
        """Return the terms adversarial (least squares), nce of x and G(x), nce_identity of y and G(y), and `total`."""
        weights = self.objective
        fakes = self.translate(batch) if made is None else made
        terms = {"adversarial": mean_over_samples(least_squares(self.discriminator(fakes.y), 1.0))}
        terms["nce"] = terms["nce_identity"] = batch.x.new_zeros(())
        if weights.nce:
            same, taps_y = self.generator.translate(batch.y)
            keys: Sequence[Tensor] = fakes.taps
            if weights.nce_target == "y":
                trusted = batch.paired.bool()[:, None, None, None]
                keys = [tap_y.where(trusted, tap_x) for tap_x, tap_y in zip(keys, taps_y, strict=True)]
            terms["nce"] = mean_over_samples(self.contrast(fakes.y, keys))
            terms["nce_identity"] = mean_over_samples(self.contrast(same, taps_y))
        contrast = (terms["nce"] + terms["nce_identity"]) / 2
        total = weights.adversarial * terms["adversarial"] + weights.nce * contrast
        return {**terms, "total": total}, fakes.detach()

    def discriminator_losses(self, fakes: Fakes, batch: Batch) -> Tensor:
        """Return half the least squares of real and generated images."""
        real, fake = self.discriminator(batch.y), self.discriminator(fakes.y)
        return mean_over_samples(least_squares(real, 1.0) + least_squares(fake, 0.0)) / 2
