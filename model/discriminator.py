"""PatchGAN discriminator: one logit per overlapping patch (Isola et al., 2017)."""

from typing import cast

from torch import Tensor, nn

from model.config import DiscriminatorConfig

#: Channels stop doubling here.
MAX_WIDTH_FACTOR = 8


class PatchDiscriminator(nn.Module):
    """C(image): convolutions of kernel 4; instance norm except in the first and last; LeakyReLU 0.2; no sigmoid.

    By default a patch sees 70x70 pixels, 256x256 gives 30x30 logits, and there are 2,764,737 parameters. Not
    conditioned on labels, as in the paper: real images must therefore be drawn from the same task as the fakes.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.width
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for index in range(1, config.n_layers + 1):
            wider = config.width * min(2**index, MAX_WIDTH_FACTOR)
            stride = 2 if index < config.n_layers else 1
            layers += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(wider),
                nn.LeakyReLU(0.2),
            ]
            channels = wider
        layers.append(nn.Conv2d(channels, 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
                nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1, h, w) float32 of image (B, 3, H, W) in [-1, 1]; higher means more real."""
        return cast(Tensor, self.layers(image)).float()
