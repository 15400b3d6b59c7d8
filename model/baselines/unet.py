"""The U-Net generator of Pix2Pix (Isola et al., 2017), without labels."""

import torch
from torch import Tensor, nn

from model.config import SMALLEST_UNET, GeneratorConfig
from model.layers import BatchNorm, ImageGenerator, initialise, require_sides

#: Channels stop doubling at this multiple of the width.
MAX_WIDTH_FACTOR = 8


class UNetGenerator(ImageGenerator):
    """Halves the image `n_downsamplings` times, then doubles it as often; each scale also sees its counterpart's
    features.

    As in Pix2Pix's code, batch normalisation follows convolutions without biases. But dropout, which Pix2Pix also uses
    in tests, acts in training only, so that a bundle gives the same answer for the same image.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        depth = config.n_downsamplings
        widths = [config.width * min(2**index, MAX_WIDTH_FACTOR) for index in range(depth)]
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()  # innermost last, as `down`
        for index, width in enumerate(widths):
            outermost, innermost = index == 0, index == depth - 1
            inputs = 3 if outermost else widths[index - 1]
            down: list[nn.Module] = [] if outermost else [nn.LeakyReLU(0.2)]
            down.append(nn.Conv2d(inputs, width, 4, stride=2, padding=1, bias=False))
            # The innermost features may be a single pixel, which normalisation would turn into 0.
            down += [] if outermost or innermost else [BatchNorm(width)]
            self.down.append(nn.Sequential(*down))
            arriving = width if innermost else 2 * width
            widen = nn.ConvTranspose2d(arriving, inputs, 4, stride=2, padding=1, bias=outermost)
            up: list[nn.Module] = [nn.ReLU(), widen]
            up += [] if outermost else [BatchNorm(inputs)]
            # Pix2Pix uses dropout in the wide layers between the innermost and the four outer ones: three at 256
            # pixels.
            if SMALLEST_UNET - 1 <= index < depth - 1:
                up.append(nn.Dropout(config.dropout))
            self.up.append(nn.Sequential(*up))
        self.apply(initialise)

    def forward(self, image: Tensor, group: Tensor, type_: Tensor) -> Tensor:
        """Translate image (B, 3, S, S) RGB in [-1, 1]; same shape, float32. The labels are ignored.

        Raises ConfigurationError for sides that cannot be halved `n_downsamplings` times.
        """
        require_sides(image, 2**self.config.n_downsamplings)
        features, skipped = image, []
        for down in self.down:
            features = down(features)
            skipped.append(features)
        features = skipped.pop()
        for up in reversed(self.up):
            features = up(features)
            if skipped:
                features = torch.cat([skipped.pop(), features], dim=1)
        return torch.tanh(features.float())
