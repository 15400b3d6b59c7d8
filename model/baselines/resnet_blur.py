"""MoNCE's generator: a ResNet with antialiased resampling that exposes inner features ("taps"), without labels."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import SIDE_MULTIPLE, GeneratorConfig
from model.layers import ImageGenerator, InstanceNorm, ResidualBlock, convolution, require_sides

#: The residual blocks whose outputs are taps, counted from 1; with fewer blocks the last one is used.
TAPPED_BLOCKS = (1, 5)
#: Gain of Xavier's initial weights.
GAIN = 0.02


def initialise_xavier(layer: nn.Module) -> None:
    """Initialise a convolution or linear layer: Xavier weights with gain 0.02, zero biases. For `Module.apply`."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_normal_(layer.weight, gain=GAIN)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class BlurDownsample(nn.Module):
    """Halves (B, c, h, w) after smoothing with the 3-tap filter [1, 2, 1] / 4 (Zhang, 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer(
            "filter", torch.outer(taps, taps).expand(channels, 1, 3, 3).contiguous(), persistent=False
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, c, h, w) to (B, c, h/2, w/2)."""
        padded = F.pad(features, (1, 1, 1, 1), mode="reflect")
        kernel = cast(Tensor, self.filter).to(features.dtype)
        return F.conv2d(padded, kernel, stride=2, groups=features.shape[1])


class BlurUpsample(nn.Module):
    """Doubles (B, c, h, w) with the 4-tap filter [1, 3, 3, 1] / 4, which is bilinear interpolation."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, c, h, w) to (B, c, 2h, 2w)."""
        return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


class BlurGenerator(ImageGenerator):
    """ResNet with blurred resampling after stride-1 convolutions, as in the CUT part of MoNCE (Zhan et al., 2022)."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        width, deep = config.width, config.width * 4
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7), InstanceNorm(width), nn.ReLU())
        self.down = nn.ModuleList(
            nn.Conv2d(width * scale, width * scale * 2, 3, padding=1) for scale in (1, 2)
        )
        self.after_down = nn.ModuleList(
            nn.Sequential(InstanceNorm(channels), nn.ReLU(), BlurDownsample(channels))
            for channels in (width * 2, deep)
        )
        self.blocks = nn.ModuleList(ResidualBlock(deep) for _ in range(config.n_blocks))
        self.tapped_blocks = sorted({min(block, config.n_blocks) for block in TAPPED_BLOCKS} - {0})
        #: Number of channels of each tap.
        self.tap_channels = [3, width * 2, deep, *(deep for _ in self.tapped_blocks)]
        up: list[nn.Module] = []
        for scale in (4, 2):
            narrower = width * scale // 2
            up += [BlurUpsample(), nn.Conv2d(width * scale, narrower, 3, padding=1)]
            up += [InstanceNorm(narrower), nn.ReLU()]
        self.decoder = nn.Sequential(*up, convolution(width, 3, 7))
        self.apply(initialise_xavier)

    def _encode(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the taps, and the features after the last tapped block."""
        require_sides(image, SIDE_MULTIPLE)
        padded = F.pad(image, (3, 3, 3, 3), mode="reflect")
        taps = [padded]
        features = self.stem(padded)
        for down, after in zip(self.down, self.after_down, strict=True):
            taps.append(down(features))
            features = after(taps[-1])
        for number, block in enumerate(self.blocks[: max(self.tapped_blocks, default=0)], 1):
            features = block(features)
            if number in self.tapped_blocks:
                taps.append(features)
        return taps, features

    def taps(self, image: Tensor) -> list[Tensor]:
        """Return features (B, c, h, w) of image (B, 3, S, S).

        They are the padded image itself, both downsampling convolutions before normalisation, and the outputs of the
        tapped residual blocks. Layers after the last tap are not computed.
        """
        return self._encode(image)[0]

    def translate(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the translated image (B, 3, S, S) in [-1, 1], float32, and the taps of the input, in one pass."""
        taps, features = self._encode(image)
        for block in self.blocks[max(self.tapped_blocks, default=0) :]:
            features = block(features)
        return torch.tanh(self.decoder(features).float()), taps

    def forward(self, image: Tensor, group: Tensor, type_: Tensor) -> Tensor:
        """Translate image (B, 3, S, S) RGB in [-1, 1]; same shape, float32. The labels are ignored.

        Raises ConfigurationError for sides that are not multiples of 4.
        """
        return self.translate(image)[0]
