"""The interface of all recipes: the batch to learn from, and the losses that a training step needs."""

from typing import NamedTuple

from torch import Tensor, nn

from model.injection import AttentionInjection
from model.layers import ImageGenerator
from model.pretrained_unet import PretrainedUNet


class Truth(NamedTuple):
    """The ground truth of a batch's synthetic defects; masks select the samples for which it is known.

    changed: (B, 1, S, S) float in [0, 1], the pixels of x that the synthesis changed. theta: (B, 2, 3) float, the
    affine map from y's coordinates to x's, as in `edits.warp`. has_changed, has_theta: (B,) float 0 or 1.
    """

    changed: Tensor
    theta: Tensor
    has_changed: Tensor
    has_theta: Tensor


class Batch(NamedTuple):
    """Training samples. x, y: (B, 3, S, S) float RGB in [-1, 1]; group, type_: (B,) int64.

    paired (p) and unpaired (u): (B,) float 0 or 1. p: x and y are a trusted pair and enter the reconstruction term. u:
    the sample enters cycle and identity. A sample may be both. Where p is 0, y is a real image of the same defect.
    n_unpaired: u is 0 from this sample on, and the passes for it leave those samples out; None if that is not known.
    The batch's maker sets it, because reading a tensor on a GPU would wait for the GPU to finish its work. Layers that
    couple samples (batch norms in training) then see other samples in these passes.
    truth: ground truth of synthetic defects, or None if there are none.
    """

    x: Tensor
    y: Tensor
    group: Tensor
    type_: Tensor
    paired: Tensor
    unpaired: Tensor
    n_unpaired: int | None = None
    truth: Truth | None = None

    def may_be_unpaired(self) -> "Batch":
        """Return the first samples, outside of which u is 0, without their truth."""
        x, y, group, type_, paired, unpaired = (values[: self.n_unpaired] for values in self[:6])
        return Batch(x, y, group, type_, paired, unpaired)


class Fakes(NamedTuple):
    """The generators' images of a batch, each (B, 3, S, S) in [-1, 1]; None if the method makes no such image.

    y = G_XY(x), x = G_YX(y), back_x = G_YX(G_XY(x)). taps: G_XY's inner features of x (B, c, h, w), for losses that
    compare them.
    """

    y: Tensor
    x: Tensor | None = None
    back_x: Tensor | None = None
    taps: tuple[Tensor, ...] = ()

    def detach(self) -> "Fakes":
        """Return the same images without their graph and without taps, for the discriminators."""
        return Fakes(*(None if image is None else image.detach() for image in self[:3]))  # type: ignore[arg-type]


class Method(nn.Module):
    """The networks that one recipe trains, and the losses of its two players.

    `state_dict` holds everything that a resumed training needs, except the optimisers' moments and the random number
    generators of the CPU and of the device.
    """

    #: G_XY, the network that goes into a bundle.
    generator: ImageGenerator
    #: True if any term learns from trusted pairs, or from other samples. Data need not hold a kind of sample that no
    #: term uses, and such a sample must not be fed.
    uses_pairs: bool
    uses_unpaired: bool
    #: True if a step updates the discriminators first, and then the generators against the updated ones with the same
    #: fakes. (With several parts the fakes are made again, with new random numbers if any are drawn.)
    discriminators_first: bool = False

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the generators' optimiser updates."""
        raise NotImplementedError

    def pretrained(self) -> list[PretrainedUNet]:
        """Return the generators with a pretrained encoder."""
        return [network for network in self.modules() if isinstance(network, PretrainedUNet)]

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return those of `generator_parameters` that belong to pretrained encoders."""
        return [parameter for network in self.pretrained() for parameter in network.encoder_parameters()]

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the discriminators' optimiser updates; empty without an adversarial term."""
        raise NotImplementedError

    def translate(self, batch: Batch) -> Fakes:
        """Run each generator once on the batch; the fakes keep their graph."""
        raise NotImplementedError

    def generator_losses(self, batch: Batch, made: Fakes | None = None) -> tuple[dict[str, Tensor], Fakes]:
        """Return unweighted scalar terms by name, with their weighted sum `total`, and the detached fakes.

        made: the result of `translate` for this batch, if it was already called. All are means over the batch's
        samples.
        """
        raise NotImplementedError

    def discriminator_losses(self, fakes: Fakes, batch: Batch) -> Tensor:
        """Return the discriminators' scalar loss on the batch and its detached fakes."""
        raise NotImplementedError

    def monitors(self) -> dict[str, Tensor]:
        """Return scalars of the last forward pass that are useful as curves: the rms of each injection's map M'.

        A map whose rms grows to tens bypasses the blocks after it; one near 0 carries no information.
        """
        return {
            f"attention_rms_{name.removeprefix('inject_')}": module.rms
            for name, module in self.generator.named_modules()
            if isinstance(module, AttentionInjection) and module.rms is not None
        }


def parameters_of(*networks: nn.Module | None) -> list[nn.Parameter]:
    """Return the parameters of the networks that are not None."""
    return [p for network in networks if network is not None for p in network.parameters()]


def mean_over_samples(values: Tensor, mask: Tensor | None = None, samples: int | None = None) -> Tensor:
    """Return (1/B) sum of mask * value (B,). Dividing by B, not by the mask's sum, makes a batch its samples' mean.

    samples: B, if `values` and `mask` are of a part of the batch, and the mask is 0 for the others.
    """
    return values.mean() if mask is None else (values * mask).sum() / (samples or len(values))
