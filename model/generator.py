"""The conditional generator: a ResNet encoder-decoder into which the defect's group, then its type, is injected."""

from typing import cast

import torch
from torch import Tensor, nn

from model.config import SIDE_MULTIPLE, GeneratorConfig
from model.edits import Edit, blend, identity_theta, warp
from model.injection import AttentionInjection
from model.layers import ImageGenerator, ResidualBlock, convolution, initialise, normalised, require_sides
from model.resnet_blur import BlurGenerator
from model.unet import UNetGenerator

#: Side of the pooled grid on which the geometry head decides. Global pooling would lose orientation.
GEOMETRY_GRID = 8


class GeometryHead(nn.Module):
    """Features to an affine map near the identity (spatial transformer; extension, not in the paper)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(channels // 2, 1)
        self.convolutions = nn.Sequential(
            *normalised(convolution(channels, narrow, 3, stride=2), narrow),
            *normalised(convolution(narrow, narrow, 3, stride=2), narrow),
            nn.AdaptiveAvgPool2d(GEOMETRY_GRID),
        )
        self.linear = nn.Linear(narrow * GEOMETRY_GRID**2, 6)
        # Adam moves every weight by the learning rate, and thousands of them add up here: unscaled, one step threw the
        # product out of the frame and training never found it again (equalised learning rate, Karras et al., 2018).
        self.scale = self.linear.in_features**-0.5

    def forward(self, features: Tensor) -> Tensor:
        """theta (B, 2, 3) float32 from features (B, c, h, w); the identity while the linear layer is zero."""
        pooled = self.convolutions(features)
        # A map at 8 bits of mantissa moves the far edge of a large photo by pixels: float32 even under autocast.
        with torch.autocast(features.device.type, enabled=False):
            # Bounded, so that no map mirrors the product: the diagonal stays positive.
            offset = torch.tanh(self.linear(pooled.float().flatten(1)) * self.scale).view(-1, 2, 3)
        return identity_theta(len(features), features.device) + offset


class Generator(ImageGenerator):
    """G(x, g, eta): image to image under a group label g and a type label eta (Li et al., 2022).

    `forward` returns the translated image; `edit` returns the same answer in a form that applies at any resolution.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        width, deep = config.width, config.width * 4
        self.encoder = nn.Sequential(
            *normalised(convolution(3, width, 7), width),
            *normalised(convolution(width, width * 2, 3, stride=2), width * 2),
            *normalised(convolution(width * 2, deep, 3, stride=2), deep),
        )
        self.inject_group = (
            AttentionInjection(deep, config.n_groups, config.reduce) if config.n_groups else None
        )
        self.blocks_before = nn.Sequential(*(ResidualBlock(deep) for _ in range(config.n_before_eta)))
        self.inject_type = AttentionInjection(deep, config.n_types, config.reduce) if config.n_types else None
        self.geometry = GeometryHead(deep) if config.geometry == "affine" else None
        self.blocks_after = nn.Sequential(
            *(ResidualBlock(deep) for _ in range(config.n_blocks - config.n_before_eta))
        )
        self.decoder = nn.Sequential(
            *normalised(
                nn.ConvTranspose2d(deep, width * 2, 3, stride=2, padding=1, output_padding=1), width * 2
            ),
            *normalised(
                nn.ConvTranspose2d(width * 2, width, 3, stride=2, padding=1, output_padding=1), width
            ),
        )
        self.head = convolution(width, 4 if config.head == "blend" else 3, 7)
        # A lookup table on the module's device: which groups may move the image.
        geometric = torch.zeros(max(config.n_groups, 1), dtype=torch.bool)
        geometric[list(config.geometric_groups)] = True
        self.register_buffer("geometric", geometric, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """N(0, 0.02) and zero biases, injections included unless configured otherwise; the geometry starts at rest."""
        injections = {
            id(layer) for part in (self.inject_group, self.inject_type) if part for layer in part.modules()
        }
        for layer in self.modules():
            if id(layer) not in injections or self.config.inject_init == "normal":
                initialise(layer)
        if self.geometry is not None:
            nn.init.zeros_(self.geometry.linear.weight)

    def _translate(
        self, image: Tensor, group: Tensor, type_: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """content (B, 3, S, S) in [-1, 1], matte (B, 1, S, S) or None, theta (B, 2, 3) or None."""
        require_sides(image, SIDE_MULTIPLE)
        features = self.encoder(image)
        if self.inject_group is not None:
            features = self.inject_group(features, group)
        features = self.blocks_before(features)
        if self.inject_type is not None:
            features = self.inject_type(features, type_)
        theta = None
        if self.geometry is not None:
            movable = cast(Tensor, self.geometric)[group]
            theta = torch.where(
                movable[:, None, None], self.geometry(features), identity_theta(len(image), image.device)
            )
            # What follows paints in the moved image's frame, so the features move along.
            features = torch.where(movable[:, None, None, None], warp(features, theta, 0.0), features)
        out = self.head(self.decoder(self.blocks_after(features))).float()
        if self.config.head == "blend":
            return torch.tanh(out[:, :3]), torch.sigmoid(out[:, 3:]), theta
        return torch.tanh(out), None, theta

    def forward(self, image: Tensor, group: Tensor, type_: Tensor) -> Tensor:
        """Translate image (B, 3, S, S) RGB in [-1, 1] under group and type labels (B,) int64; same shape, float32.

        Labels whose vocabulary is 0 are ignored. Raises ConfigurationError for sides that are not multiples of 4.
        """
        content, matte, theta = self._translate(image, group, type_)
        if matte is None:
            return content
        image = image.float()
        if theta is not None:
            movable = cast(Tensor, self.geometric)[group]
            image = torch.where(movable[:, None, None, None], warp(image, theta, outside=1.0), image)
        return blend(image, content, matte)

    def edit(self, image: Tensor, group: Tensor, type_: Tensor) -> Edit:
        """The same translation as an `Edit`: `apply_edit(image, edit)` equals `forward`. Arguments as in `forward`."""
        content, matte, theta = self._translate(image, group, type_)
        if matte is None:
            # The direct head repaints everything, in the moved frame already: nothing of the input remains to be moved.
            matte, theta = torch.ones_like(content[:, :1]), None
        if theta is None:
            theta = identity_theta(len(image), image.device)
        return Edit(theta, content, matte)


def build_generator(config: GeneratorConfig) -> ImageGenerator:
    """A generator of the configured architecture, freshly initialised."""
    kinds: dict[str, type[ImageGenerator]] = {
        "resnet": Generator,
        "unet": UNetGenerator,
        "resnet_blur": BlurGenerator,
    }
    return kinds[config.architecture](config)


def parameter_count(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in module.parameters())
