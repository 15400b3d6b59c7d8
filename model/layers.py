"""Building blocks that the generators share, and what a generator of any architecture can do."""

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

    #: Whether bundles try to hold the weights in half precision.
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
        """Return the generator in the form that runs fastest, in evaluation mode; answers differ by rounding alone."""
        return self.eval()

    def edit(self, image: Tensor, group: Tensor, type_: Tensor) -> Edit:
        """The same translation as an `Edit`: `apply_edit(image, edit)` equals `forward`. Arguments as in `forward`."""
        content = self(image, group, type_)
        return Edit(identity_theta(len(image), image.device), content, torch.ones_like(content[:, :1]))


def require_sides(image: Tensor, multiple: int) -> None:
    """Raise ConfigurationError unless both sides of image (B, C, H, W) are multiples of `multiple`."""
    if image.shape[-1] % multiple or image.shape[-2] % multiple:
        raise ConfigurationError(f"image sides {tuple(image.shape[-2:])} must be multiples of {multiple}")


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (divided by the stride); reflect padding at stride 1, as in CycleGAN."""
    return nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=kernel // 2,
        padding_mode="reflect" if stride == 1 else "zeros",
    )


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation: non-affine, no running statistics, eps 1e-5, with right gradients for one image, too.

    On CPUs `F.instance_norm` of torch 2.14 gives a batch of one wrong gradients where its outputs' gradients are
    channels-last, as in bfloat16 trainings. `F.batch_norm` computes the same of one image, and has right ones.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, c, h, w) to the same shape."""
        return _normalise_each(input)


def _normalise_each(features: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    if len(features) == 1 and features.requires_grad:
        return F.batch_norm(features, None, None, weight, bias, training=True)
    return F.instance_norm(features, weight=weight, bias=bias)


def normalised(layer: nn.Module, channels: int) -> list[nn.Module]:
    """The layer, instance normalisation (non-affine, no running statistics, eps 1e-5) and ReLU."""
    return [layer, InstanceNorm(channels), nn.ReLU()]


class BatchNorm(nn.Module):
    """Batch normalisation as Pix2Pix runs it: affine, eps 1e-5, and by the statistics of the images at hand, always.

    Training takes them over the batch. Evaluation takes them over each image: Pix2Pix's own test runs one image at a
    time with the statistics of that image, so an image's answer never depends on the others of its batch. There are
    no running averages, hence nothing that checkpoints, moving averages or several processes would have to keep.
    """

    def __init__(self, channels: int) -> None:
        """Scales N(1, 0.02) and offsets 0, as in Pix2Pix."""
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, 1.0, INITIAL_DEVIATION)

    def forward(self, features: Tensor) -> Tensor:
        """(B, c, h, w) to the same shape."""
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
        """(B, c, h, w) to the same shape."""
        return cast(Tensor, features + self.body(features))


def initialise(layer: nn.Module) -> None:
    """For `Module.apply`: N(0, 0.02) weights and zero biases of a convolution or a linear layer."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(layer.weight, 0.0, INITIAL_DEVIATION)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
