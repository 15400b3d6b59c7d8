"""The conditional generator: a ResNet encoder-decoder with injection of the defect's group, then of its type."""

import torch
from torch import Tensor, nn

from model.baselines.resnet_blur import BlurGenerator
from model.baselines.unet import UNetGenerator
from model.config import SIDE_MULTIPLE, GeneratorConfig
from model.editing import Answer, EditingGenerator, GeometryHead, split_head
from model.edits import warp
from model.injection import AttentionInjection
from model.layers import ImageGenerator, ResidualBlock, convolution, initialise, normalised, require_sides
from model.pretrained_unet import PretrainedUNet


class Generator(EditingGenerator):
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
        self.geometry = _geometry(deep) if config.geometry == "affine" else None
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
        self._initialise()

    def _initialise(self) -> None:
        """Set N(0, 0.02) and zero biases, also in injections by default; the geometry starts as the identity."""
        injections = {
            id(layer) for part in (self.inject_group, self.inject_type) if part for layer in part.modules()
        }
        for layer in self.modules():
            if id(layer) not in injections or self.config.inject_init == "normal":
                initialise(layer)
        if self.geometry is not None:
            nn.init.zeros_(self.geometry.linear.weight)

    def answer(self, image: Tensor, group: Tensor, type_: Tensor) -> Answer:
        """Return the network's answer; see `EditingGenerator`."""
        require_sides(image, SIDE_MULTIPLE)
        features = self.encoder(image)
        if self.inject_group is not None:
            features = self.inject_group(features, group)
        features = self.blocks_before(features)
        if self.inject_type is not None:
            features = self.inject_type(features, type_)
        theta = None
        if self.geometry is not None:
            theta = self.allowed_theta(self.geometry(features), group)
            # The layers after this paint in the moved image's frame, so the features move along.
            features = torch.where(self.movable(group), warp(features, theta, 0.0), features)
        content, matte = split_head(self.head(self.decoder(self.blocks_after(features))), self.config.head)
        return Answer(content, matte, theta)


def _geometry(channels: int) -> GeometryHead:
    narrow = max(channels // 2, 1)
    layers = [
        *normalised(convolution(channels, narrow, 3, stride=2), narrow),
        *normalised(convolution(narrow, narrow, 3, stride=2), narrow),
    ]
    return GeometryHead(layers, narrow)


def build_generator(config: GeneratorConfig) -> ImageGenerator:
    """Return a generator of the configured architecture, freshly initialised."""
    kinds: dict[str, type[ImageGenerator]] = {
        "resnet": Generator,
        "pretrained_unet": PretrainedUNet,
        "unet": UNetGenerator,
        "resnet_blur": BlurGenerator,
    }
    return kinds[config.architecture](config)


def parameter_count(module: nn.Module) -> int:
    """Return the number of trainable scalars."""
    return sum(parameter.numel() for parameter in module.parameters())
