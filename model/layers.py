"""Building blocks that the generators share, and the base class of generators of any architecture."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import GeneratorConfig
from model.edits import Edit, identity_theta
from model.errors import ConfigurationError

#: Standard deviation of initial weights in every network (CycleGAN's convention).
INITIAL_DEVIATION = 0.02


class ImageGenerator(nn.Module):
    """A network that translates images. Architectures without labels ignore them."""

    #: True if bundles try to store the weights in half precision.
    stores_half = False

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, image: Tensor, group: Tensor, type_: Tensor) -> Tensor:
        """Translate image (B, 3, S, S) RGB in [-1, 1] under group and type labels (B,) int64; same shape, float32.

        Raises ConfigurationError for sides that the architecture cannot halve often enough.
        """
        raise NotImplementedError

    def for_inference(self) -> "ImageGenerator":
        """Return the generator in its fastest form, in evaluation mode; answers differ by rounding only."""
        return self.eval()

    def edit(self, image: Tensor, group: Tensor, type_: Tensor) -> Edit:
        """Translate into an `Edit`: `apply_edit(image, edit)` equals `forward`. Arguments as in `forward`."""
        content = self(image, group, type_)
        return Edit(identity_theta(len(image), image.device), content, torch.ones_like(content[:, :1]))


def require_sides(image: Tensor, multiple: int) -> None:
    """Raise ConfigurationError unless both sides of image (B, C, H, W) are multiples of `multiple`."""
    if image.shape[-1] % multiple or image.shape[-2] % multiple:
        raise ConfigurationError(f"image sides {tuple(image.shape[-2:])} must be multiples of {multiple}")


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the size (divided by the stride), with reflect padding at stride 1 (CycleGAN)."""
    return nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=kernel // 2,
        padding_mode="reflect" if stride == 1 else "zeros",
    )


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation: non-affine, no running statistics, eps 1e-5. Its gradients are right for one image, too.

    On CPUs `F.instance_norm` of torch 2.14 gives a batch of one wrong gradients if the gradients of its outputs are
    channels-last, as in bfloat16 training. `F.batch_norm` computes the same for one image, with right gradients.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, c, h, w); same shape."""
        return _normalise_each(input)


def _normalise_each(features: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    if len(features) == 1 and features.requires_grad:
        return F.batch_norm(features, None, None, weight, bias, training=True)
    return F.instance_norm(features, weight=weight, bias=bias)


def normalised(layer: nn.Module, channels: int) -> list[nn.Module]:
    """Return the layer, instance normalisation (non-affine, no running statistics, eps 1e-5) and ReLU."""
    return [layer, InstanceNorm(channels), nn.ReLU()]


class BatchNorm(nn.Module):
    """Batch normalisation as in Pix2Pix: affine, eps 1e-5, always with the statistics of the current images.

    Training takes them over the batch, evaluation over each image. Pix2Pix's own test runs one image at a time with the
    statistics of that image, so an image's answer never depends on the others of its batch. There are no running
    averages, so checkpoints, moving averages and several processes have nothing to keep.
    """

    def __init__(self, channels: int) -> None:
        """Use scales N(1, 0.02) and offsets 0, as in Pix2Pix."""
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, 1.0, INITIAL_DEVIATION)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, c, h, w); same shape."""
        if self.training:
            return F.batch_norm(features, None, None, self.weight, self.bias, training=True)
        return _normalise_each(features, self.weight, self.bias)


class ResidualBlock(nn.Module):
    """h + IN(conv3(ReLU(IN(conv3(h))))) with reflect padding and no dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *normalised(convolution(channels, channels, 3), channels),
            convolution(channels, channels, 3),
            InstanceNorm(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Apply the block to (B, c, h, w); same shape."""
        return cast(Tensor, features + self.body(features))


def initialise(layer: nn.Module) -> None:
    """Initialise a convolution or linear layer: weights N(0, 0.02), zero biases. For `Module.apply`."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(layer.weight, 0.0, INITIAL_DEVIATION)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
