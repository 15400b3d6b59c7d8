"""What every recipe has in common: the batch it learns from, and the losses that a training step asks it for."""

from typing import NamedTuple

from torch import Tensor, nn

from model.injection import AttentionInjection
from model.layers import ImageGenerator
from model.pretrained_unet import PretrainedUNet


class Truth(NamedTuple):
    """What the synthesis of a batch's defects knows about them; the masks say of which samples.

    changed: (B, 1, S, S) float in [0, 1], which pixels of x it has changed. theta: (B, 2, 3) float, the affine map from
    y's coordinates to x's, as `edits.warp` takes it. has_changed, has_theta: (B,) float 0 or 1.
    """

    changed: Tensor
    theta: Tensor
    has_changed: Tensor
    has_theta: Tensor


class Batch(NamedTuple):
    """Training samples. x, y: (B, 3, S, S) float RGB in [-1, 1]; group, type_: (B,) int64.

    paired (p) and unpaired (u): (B,) float 0 or 1. p: x and y are a trusted pair and enter the reconstruction term;
    u: the sample enters cycle and identity. A sample may be both. Where p is 0, y is a real image of the same task.
    any_unpaired: False only where u is 0 throughout; the passes for it are then skipped. Told by whoever makes the
    batch, because to ask a GPU's tensor would wait for all that the GPU still has to do.
    truth: what the synthesis knows of its defects, or None where it made none of them.
    """

    x: Tensor
    y: Tensor
    group: Tensor
    type_: Tensor
    paired: Tensor
    unpaired: Tensor
    any_unpaired: bool = True
    truth: Truth | None = None


class Fakes(NamedTuple):
    """What the generators made of a batch, each (B, 3, S, S) in [-1, 1]; None where the method makes no such image.

    y = G_XY(x), x = G_YX(y), back_x = G_YX(G_XY(x)). taps: G_XY's inner features of x on the way to y (B, c, h, w),
    for losses that compare them.
    """

    y: Tensor
    x: Tensor | None = None
    back_x: Tensor | None = None
    taps: tuple[Tensor, ...] = ()

    def detach(self) -> "Fakes":
        """The same images without the graph that made them, and no taps: what discriminators learn from."""
        return Fakes(*(None if image is None else image.detach() for image in self[:3]))  # type: ignore[arg-type]


class Method(nn.Module):
    """What one recipe trains: its networks, and the losses of its two players.

    `state_dict` holds everything that a resumed training needs, besides the optimisers' moments and the random number
    generators of the CPU and of the device.
    """

    #: G_XY, the network that goes into a bundle.
    generator: ImageGenerator
    #: Whether any term learns from trusted pairs, and whether any learns from other samples: data need not hold
    #: what no term uses, and a sample of such a kind must not be fed.
    uses_pairs: bool
    uses_unpaired: bool
    #: Whether a step updates the discriminators first, and then the generators by what these think of the same fakes
    #: (of several parts: of fakes made anew, with other random numbers where any are drawn).
    discriminators_first: bool = False

    def generator_parameters(self) -> list[nn.Parameter]:
        """What the generators' optimiser updates."""
        raise NotImplementedError

    def pretrained(self) -> list[PretrainedUNet]:
        """The generators whose encoder is pretrained."""
        return [network for network in self.modules() if isinstance(network, PretrainedUNet)]

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Those of `generator_parameters` that belong to pretrained encoders."""
        return [parameter for network in self.pretrained() for parameter in network.encoder_parameters()]

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """What the discriminators' optimiser updates; empty where there is no adversarial term."""
        raise NotImplementedError

    def translate(self, batch: Batch) -> Fakes:
        """Run the generators once each on the batch; the fakes keep their graph."""
        raise NotImplementedError

    def generator_losses(self, batch: Batch, made: Fakes | None = None) -> tuple[dict[str, Tensor], Fakes]:
        """Unweighted scalar terms by name and their weighted sum `total`; and the fakes, detached.

        made: what `translate` has made of this batch already. Everything is a mean over the batch's samples.
        """
        raise NotImplementedError

    def discriminator_losses(self, fakes: Fakes, batch: Batch) -> Tensor:
        """The discriminators' scalar loss on what the generators made of this batch, detached."""
        raise NotImplementedError

    def monitors(self) -> dict[str, Tensor]:
        """Scalars of the last forward pass that are no losses but worth a curve: the rms of each injection's map M'.

        A map whose rms grows to tens bypasses the blocks behind it; one near 0 has nothing to say.
        """
        return {
            f"attention_rms_{name.removeprefix('inject_')}": module.rms
            for name, module in self.generator.named_modules()
            if isinstance(module, AttentionInjection) and module.rms is not None
        }


def parameters_of(*networks: nn.Module | None) -> list[nn.Parameter]:
    """The parameters of the networks that exist."""
    return [p for network in networks if network is not None for p in network.parameters()]


def mean_over_samples(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """(1/B) sum of mask * value (B,): divided by B, not by the mask's sum, so that a batch is its samples' mean."""
    return values.mean() if mask is None else (values * mask).sum() / len(values)
