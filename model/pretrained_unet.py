"""A U-Net over a pretrained encoder, conditioned on the same labels in the same order as the paper's network.

The paper's network learns from random weights what a product is; these encoders have learned it from ImageNet. The
group is injected at 1/16 of the image's size and the type at 1/8: the paper's hierarchy, from coarse to fine
(extension, not in the paper).
"""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import PRETRAINED_MULTIPLE, GeneratorConfig
from model.editing import Answer, EditingGenerator, GeometryHead, split_head
from model.edits import warp
from model.encoder import Encoder, fold_norms
from model.injection import AttentionInjection
from model.layers import initialise, require_sides

#: Channels of the decoder at 1/16, 1/8, 1/4, 1/2 and 1 of the image's size, as multiples of `width`.
WIDTHS = {16: 8, 8: 4, 4: 3, 2: 2, 1: 1}
#: Channels of the geometry head, as a multiple of `width`.
GEOMETRY_WIDTH = 2


class ResidualUnit(nn.Module):
    """h + BN(conv3(ReLU(BN(conv3(h)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normed(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Apply the unit to (B, c, h, w); same shape."""
        return features + self.body(features)


class Decoder(nn.Module):
    """One step up: doubles the size, joins the encoder's features of that size, and convolves once."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.merge = nn.Sequential(*_normed(inputs + skip, outputs))

    def forward(self, features: Tensor, skip: Tensor | None) -> Tensor:
        """Map (B, inputs, h, w) and (B, skip, 2h, 2w) to (B, outputs, 2h, 2w)."""
        up = F.interpolate(features, scale_factor=2.0, mode="nearest")
        return self.merge(up if skip is None else torch.cat([up, skip.to(up.dtype)], dim=1))


class PretrainedUNet(EditingGenerator):
    """G(x, g, eta) over a pretrained encoder; blend head at full resolution, geometry head after the group's injection.

    Content and matte are decoded in the image's own frame and then moved with it, so that the encoder's features are
    used where they were computed. The content is a change of the image and starts at none: a faint mark needs little
    change, and a matte that opens over a faultless area does no harm. With content that starts from grey, marks on
    goods were not learned.
    """

    stores_half = True

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config.encoder, config.freeze_norms)
        channels = self.encoder.channels
        widths = {level: config.width * times for level, times in WIDTHS.items()}
        self.bottleneck = nn.Conv2d(channels[32], widths[16], 1)
        self.up16 = Decoder(widths[16], channels[16], widths[16])
        self.up8 = Decoder(widths[16], channels[8], widths[8])
        self.up4 = Decoder(widths[8], channels.get(4, 0), widths[4])
        self.up2 = Decoder(widths[4], channels.get(2, 0), widths[2])
        self.up1 = Decoder(widths[2], 3, widths[1])
        self.inject_group = self._injection(widths[16], config.n_groups)
        self.inject_type = self._injection(widths[8], config.n_types)
        self.refine16, self.refine8 = (
            nn.Sequential(nn.BatchNorm2d(widths[level]), ResidualUnit(widths[level])) for level in (16, 8)
        )
        self.last = nn.Sequential(*_normed(widths[1], widths[1]))
        self.head = nn.Conv2d(widths[1], 4 if config.head == "blend" else 3, 3, padding=1)
        nn.init.zeros_(self.head.weight[:3].data)
        nn.init.zeros_(cast(Tensor, self.head.bias)[:3].data)
        self.geometry = None
        if config.geometry == "affine":
            narrow = config.width * GEOMETRY_WIDTH
            self.geometry = GeometryHead(_normed(widths[16], narrow, stride=2), narrow)
            self.geometry.apply(initialise)
            nn.init.zeros_(self.geometry.linear.weight)

    def _injection(self, channels: int, labels: int) -> AttentionInjection | None:
        if not labels:
            return None
        injection = AttentionInjection(channels, labels, self.config.reduce)
        if self.config.inject_init != "framework":
            injection.apply(initialise)
        if self.config.inject_init == "wide":
            nn.init.normal_(injection.embedding.weight)
        return injection

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the pretrained parameters, which a training may update more slowly."""
        return list(self.encoder.parameters())

    def answer(self, image: Tensor, group: Tensor, type_: Tensor) -> Answer:
        """Return the network's answer; see `EditingGenerator`."""
        require_sides(image, PRETRAINED_MULTIPLE)
        skips = self.encoder(image)
        features = self.up16(self.bottleneck(skips[32]), skips[16])  # (B, 8w, S/16, S/16)
        if self.inject_group is not None:
            features = self.inject_group(features, group)
        features = self.refine16(features)
        theta = None if self.geometry is None else self.allowed_theta(self.geometry(features), group)
        features = self.up8(features, skips[8])  # (B, 4w, S/8, S/8)
        if self.inject_type is not None:
            features = self.inject_type(features, type_)
        features = self.up2(self.up4(self.refine8(features), skips.get(4)), skips.get(2))
        features = self.last(self.up1(features, image))  # (B, w, S, S)
        content, matte = split_head(self.head(features), self.config.head, start=image)
        if theta is not None:
            movable = self.movable(group)
            content = torch.where(movable, warp(content, theta, outside=1.0), content)
            if matte is not None:
                matte = torch.where(movable, warp(matte, theta, outside=0.0), matte)
        return Answer(content, matte, theta)

    def for_inference(self) -> "PretrainedUNet":
        """Return a copy in evaluation mode: batch norms folded into the convolutions before them, ReLUs in place."""
        folded = copy.deepcopy(self).eval()
        fold_norms(folded)
        for name, layer in folded.named_modules():
            if isinstance(layer, nn.ReLU) and not name.startswith("encoder."):
                layer.inplace = True  # it follows a convolution, whose result nothing else reads
        return folded


def _normed(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """Return a 3x3 convolution, batch normalisation and ReLU."""
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
