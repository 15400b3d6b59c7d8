"""PatchGAN discriminator: one logit per overlapping patch (Isola et al., 2017)."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.baselines.resnet_blur import BlurDownsample
from model.config import DiscriminatorConfig, require
from model.layers import BatchNorm, InstanceNorm, initialise

#: Channels stop doubling at this multiple of the width.
MAX_WIDTH_FACTOR = 8
#: Kernel side of the last convolution.
LAST_KERNEL = 4


class PatchDiscriminator(nn.Module):
    """C(image): convolutions of kernel 4; instance norm except in the first and last; LeakyReLU 0.2; no sigmoid.

    By default a patch sees 70x70 pixels, 256x256 gives 30x30 logits, and there are 2,764,737 parameters. It is not
    conditioned on labels, as in the paper, so real images must be of the same defect as the fakes.
    """

    def __init__(
        self,
        config: DiscriminatorConfig,
        n_labels: int = 0,
        inputs: int = 3,
        *,
        batch_norm: bool = False,
        antialiased: bool = False,
    ) -> None:
        """n_labels: size of the vocabulary for `config.condition`; inputs: channels of the image to judge.

        batch_norm: as in Pix2Pix, batch norm after convolutions without biases replaces instance norm. antialiased: as
        in MoNCE, strided convolutions get stride 1, and a blur after their activation halves the image; a patch then
        sees 84x84 pixels. Raises ConfigurationError if the configuration conditions on labels and there are none.
        """
        super().__init__()
        require(
            config.condition == "none" or n_labels > 0,
            f"discriminator condition {config.condition!r} needs labels, and this method has none",
        )
        self.config, self.n_labels = config, n_labels
        channels = inputs + (n_labels if config.condition == "concat" else 0)
        layers: list[nn.Module] = []
        for index in range(config.n_layers + 1):
            outermost, halves = index == 0, index < config.n_layers
            wider = config.width * min(2**index, MAX_WIDTH_FACTOR)
            stride = 2 if halves and not antialiased else 1
            biased = outermost or not batch_norm
            layers.append(nn.Conv2d(channels, wider, 4, stride=stride, padding=1, bias=biased))
            if not outermost:
                layers.append(BatchNorm(wider) if batch_norm else InstanceNorm(wider))
            layers.append(nn.LeakyReLU(0.2))
            if halves and antialiased:
                layers.append(BlurDownsample(wider))
            channels = wider
        self.features = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels, 1, LAST_KERNEL, stride=1, padding=1)
        # A linear layer without bias, whose columns are the labels' embeddings.
        self.projection = (
            nn.Linear(n_labels, channels, bias=False) if config.condition == "projection" else None
        )
        self.apply(initialise)

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (B, 1, h, w) float32 of image (B, 3, H, W) in [-1, 1]; higher means more real.

        labels: (B,) int64 in 0..n_labels-1, required if the configuration conditions on them and ignored otherwise.
        """
        if self.config.condition == "concat":
            planes = F.one_hot(cast(Tensor, labels), self.n_labels).to(image.dtype)[:, :, None, None]
            image = torch.cat([image, planes.expand(-1, -1, *image.shape[-2:])], dim=1)
        features = self.features(image)
        logits = cast(Tensor, self.last(features)).float()
        if self.projection is not None:
            # The mean of the features over the last convolution's window, so that both have one value per patch.
            pooled = F.avg_pool2d(features.float(), LAST_KERNEL, stride=1, padding=1)
            embedded = self.projection.weight.t()[labels]  # (B, c)
            logits = logits + (pooled * embedded[:, :, None, None]).sum(dim=1, keepdim=True)
        return logits
