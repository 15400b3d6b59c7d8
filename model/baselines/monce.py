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
#: Width of the per-tap networks and of the patches' vectors.
EMBEDDING = 256


@dataclass(frozen=True)
class MoNCEObjective:
    """Weights and constants; the defaults are the released code's."""

    adversarial: float = 1.0
    nce: float = 1.0
    # `hard` weighs similar negatives up; `easy` down, which the paper proposes for paired data.
    weighting: str = "hard"
    # Regularisation of the transport. Smaller values part hard from easy negatives more; the authors also ran .1.
    epsilon: float = 1.0
    # Weight of all negatives together against the positive.
    gamma: float = 1.0
    temperature: float = 0.07
    # Patches per image and tap. Fewer save memory: the transport is quadratic in them.
    n_patches: int = 256
    # True treats the transport as constants: cheaper by the backward pass through it, and hardly different.
    detach_weights: bool = False
    # Whose patches G(x)'s must resemble. `y` (an extension) takes the target's where the pair is trusted.
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
        """A pair's images are learned from like any others, and with nce_target='y' as a pair."""
        return True

    @property
    def uses_unpaired(self) -> bool:
        """Every term learns from unpaired images."""
        return True


class PatchProjector(nn.Module):
    """Per tap, features of patches to unit vectors: C -> 256 -> ReLU -> 256."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.taps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, EMBEDDING), nn.ReLU(), nn.Linear(EMBEDDING, EMBEDDING))
            for width in channels
        )
        self.apply(initialise_xavier)

    def forward(self, features: Sequence[Tensor], at: Sequence[Tensor]) -> list[Tensor]:
        """Features (B, C, h, w) per tap at positions (N,) per tap to unit vectors (B, N, 256) float32 per tap."""
        return [
            unit(project(patches(tap, where)).float())
            for project, tap, where in zip(self.taps, features, at, strict=True)
        ]


class MoNCE(Method):
    """G_XY, D_Y, and the networks that project patches. Labels are ignored.

    Networks, losses and steps are those of the released code's CUT part, whose discriminator is antialiased and steps
    before the generator. What is not as there: taps with fewer than `n_patches` positions weigh their negatives by
    their own number; images are neither cropped nor mirrored unless asked for; and the rate falls by step.
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
        """The generator's and the projector's."""
        return parameters_of(self.generator, self.projector)

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """The one discriminator's."""
        return list(self.discriminator.parameters())

    def contrast(self, made: Tensor, keys: Sequence[Tensor]) -> Tensor:
        """The loss (B,) between patches of generated images (B, 3, S, S) and the taps `keys` of what they came from,
        averaged over the taps. Query and key are taken at the same random positions, the same for the whole batch.
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
        """Terms adversarial (least squares), nce of x and G(x), nce_identity of y and G(y), and `total`."""
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
        """Half the least squares of real and generated images."""
        real, fake = self.discriminator(batch.y), self.discriminator(fakes.y)
        return mean_over_samples(least_squares(real, 1.0) + least_squares(fake, 0.0)) / 2
