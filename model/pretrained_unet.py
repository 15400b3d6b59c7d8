"""A U-Net over a pretrained encoder, steered by the same labels in the same order as the paper's network.

The paper's network learns from nothing what a product is; ImageNet has taught these encoders already. The group is
injected at 1/16 of the image's size and the type at 1/8: the paper's hierarchy, from coarse to fine (extension, not in
the paper). Encoder: `timm`, https://github.com/huggingface/pytorch-image-models.
"""

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from model.config import PRETRAINED_MULTIPLE, GeneratorConfig, require
from model.editing import Answer, EditingGenerator, GeometryHead, split_head
from model.edits import warp
from model.errors import ConfigurationError
from model.injection import AttentionInjection
from model.layers import initialise, require_sides

#: Channels of the decoder at 1/16, 1/8, 1/4, 1/2 and 1 of the image's size, as multiples of `width`.
WIDTHS = {16: 8, 8: 4, 4: 3, 2: 2, 1: 1}
#: Channels of the geometry head as a multiple of `width`.
GEOMETRY_WIDTH = 2
#: Reductions that an encoder must have features for; at 1/4 and 1/2 they are used where there are some.
NEEDED = (8, 16, 32)


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
        """(B, c, h, w) to the same shape."""
        return features + self.body(features)


class Decoder(nn.Module):
    """One step up: twice the size, joined with the encoder's features there, one convolution."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.merge = nn.Sequential(*_normed(inputs + skip, outputs))

    def forward(self, features: Tensor, skip: Tensor | None) -> Tensor:
        """(B, inputs, h, w) and (B, skip, 2h, 2w) to (B, outputs, 2h, 2w)."""
        up = F.interpolate(features, scale_factor=2.0, mode="nearest")
        return self.merge(up if skip is None else torch.cat([up, skip.to(up.dtype)], dim=1))


class PretrainedUNet(EditingGenerator):
    """G(x, g, eta) over a pretrained encoder; blend head at full resolution, geometry head behind the group.

    Content and matte are decoded in the image's own frame and then moved along with it, so that the encoder's features
    are used where they were made.
    """

    stores_half = True

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        self.encoder, channels, mean, deviation = _encoder(config.encoder)
        # What the encoder was pretrained to see; in the bundle, so that a later release of timm changes nothing.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1))
        self._levels = sorted(channels)
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
        self.geometry = None
        if config.geometry == "affine":
            narrow = config.width * GEOMETRY_WIDTH
            self.geometry = GeometryHead(_normed(widths[16], narrow, stride=2), narrow)
            self.geometry.apply(initialise)
            nn.init.zeros_(self.geometry.linear.weight)
        self.train(self.training)

    def _injection(self, channels: int, labels: int) -> AttentionInjection | None:
        if not labels:
            return None
        injection = AttentionInjection(channels, labels, self.config.reduce)
        if self.config.inject_init != "framework":
            injection.apply(initialise)
        if self.config.inject_init == "wide":
            nn.init.normal_(injection.embedding.weight)
        return injection

    def train(self, mode: bool = True) -> "PretrainedUNet":
        """Set training mode; the encoder's batch norms stay in evaluation where `freeze_norms` says so."""
        super().train(mode)
        if self.config.freeze_norms:
            for layer in self.encoder.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self

    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Load pretrained weights, by the names that timm gives the encoder's parameters and buffers.

        Raises ConfigurationError naming what is missing or has another shape; further names, as of a classifier, are
        left out.
        """
        own = self.encoder.state_dict()
        missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
        require(
            not missing,
            f"the weights lack {len(missing)} of {self.config.encoder}'s tensors, as {missing[:1]}",
        )
        odd = [name for name in own if name in state and state[name].shape != own[name].shape]
        require(not odd, f"the weights of {self.config.encoder} have other shapes, as {odd[:1]}")
        self.encoder.load_state_dict({name: state.get(name, value) for name, value in own.items()})

    def encoder_parameters(self) -> list[nn.Parameter]:
        """What was pretrained, which a training may move more slowly."""
        return list(self.encoder.parameters())

    def answer(self, image: Tensor, group: Tensor, type_: Tensor) -> Answer:
        """Run the network; see `EditingGenerator`."""
        require_sides(image, PRETRAINED_MULTIPLE)
        seen = ((image + 1) / 2 - cast(Tensor, self.mean)) / cast(Tensor, self.deviation)
        skips: dict[int, Tensor] = dict(zip(self._levels, self.encoder(seen), strict=True))
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
        content, matte = split_head(self.head(features), self.config.head)
        if theta is not None:
            movable = self.movable(group)
            content = torch.where(movable, warp(content, theta, outside=1.0), content)
            if matte is not None:
                matte = torch.where(movable, warp(matte, theta, outside=0.0), matte)
        return Answer(content, matte, theta)

    def for_inference(self) -> "PretrainedUNet":
        """Return a copy in evaluation mode whose batch norms are folded into the convolutions before them."""
        folded = copy.deepcopy(self).eval()
        _fold(folded)
        return folded


def _normed(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """A 3x3 convolution, batch normalisation and ReLU."""
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def _encoder(name: str) -> tuple[nn.Module, dict[int, int], Any, Any]:
    """The backbone with random weights, its channels by reduction, and the mean and deviation of its images.

    Raises ConfigurationError for a name that timm lacks, and for a backbone without the features that are NEEDED.
    """
    import timm  # two seconds, which jobs without such a network need not wait

    try:
        network = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, ValueError, AssertionError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(
            f"--encoder {name}: timm has no such backbone, or it gives no feature maps ({reason}); "
            "timm.list_models() names them"
        ) from error
    channels = dict(zip(network.feature_info.reduction(), network.feature_info.channels(), strict=True))
    missing = [str(level) for level in NEEDED if level not in channels]
    require(
        not missing and max(channels) == max(NEEDED),
        f"--encoder {name}: features at 1/{', 1/'.join(map(str, channels))} of the image's size, but those at "
        f"1/{', 1/'.join(map(str, NEEDED))} are needed; use one such as tf_efficientnet_lite0 or resnet18",
    )
    known = network.pretrained_cfg if isinstance(network.pretrained_cfg, dict) else {}
    half = (0.5, 0.5, 0.5)
    return network, channels, known.get("mean", half), known.get("std", half)


def _fold(module: nn.Module) -> None:
    """Fold each batch norm into the convolution registered right before it; the activation that timm keeps inside its
    norms stays in its place.

    That registration order is the order of execution holds for this module's own layers and timm's convolutional
    backbones; tests compare the outputs.
    """
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None:
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold(child)
        before = (name, child) if isinstance(child, nn.Conv2d) else None
