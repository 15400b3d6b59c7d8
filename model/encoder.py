"""Pretrained encoders: features of an image at several resolutions, from any convolutional backbone of timm.

The generator (`model.pretrained_unet`) and the detector (`model.detector.network`) share them (extension, not
in the paper). Source: `timm`, https://github.com/huggingface/pytorch-image-models.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from model.errors import ConfigurationError

#: Reductions for which a backbone must have features; those at 1/2 and 1/4 are used if it has them.
NEEDED = (8, 16, 32)


class Encoder(nn.Module):
    """Maps images (B, 3, S, S) in [-1, 1] to {reduction r: features (B, c_r, S/r, S/r)}."""

    def __init__(self, name: str, freeze_norms: bool) -> None:
        """Use random weights. name: timm's. freeze_norms: batch norms keep their statistics in training.

        Raises ConfigurationError for a name that timm lacks, and for a backbone without the NEEDED features.
        """
        super().__init__()
        self.name, self.freeze_norms = name, freeze_norms
        self.backbone = _backbone(name)
        known = cast(Any, self.backbone).feature_info
        #: Number of channels by reduction.
        self.channels: dict[int, int] = dict(zip(known.reduction(), known.channels(), strict=True))
        missing = [str(level) for level in NEEDED if level not in self.channels]
        if missing or max(self.channels) != max(NEEDED):
            raise ConfigurationError(
                f"backbone {name}: features at 1/{', 1/'.join(map(str, self.channels))} of the image's size, but those "
                f"at 1/{', 1/'.join(map(str, NEEDED))} are needed; use one such as tf_efficientnet_lite0 or resnet18"
            )
        # The pretraining's normalisation; kept in the bundle, so that a later release of timm changes nothing.
        config = self.backbone.pretrained_cfg if isinstance(self.backbone.pretrained_cfg, dict) else {}
        for part, key in (("mean", "mean"), ("deviation", "std")):
            self.register_buffer(part, torch.tensor(config.get(key, (0.5, 0.5, 0.5))).view(1, 3, 1, 1))
        self.train(self.training)

    def train(self, mode: bool = True) -> "Encoder":
        """Set training mode; batch norms stay in evaluation mode if `freeze_norms` is set."""
        super().train(mode)
        if self.freeze_norms:
            for layer in self.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Return the features; S is a multiple of 32. On a CPU, a training computes them in float32, whatever its
        precision: there, gradients of depthwise convolutions in bfloat16 take up to six times as long.
        """
        exact = image.device.type == "cpu" and torch.is_grad_enabled()
        with torch.autocast("cpu", enabled=False) if exact else nullcontext():
            image = image.float() if exact else image
            normalised = ((image + 1) / 2 - cast(Tensor, self.mean)) / cast(Tensor, self.deviation)
            return dict(zip(self.channels, self.backbone(normalised), strict=True))

    def load_pretrained(self, state: Mapping[str, Tensor]) -> None:
        """Load the backbone's weights, by timm's names of its parameters and buffers.

        Other names, such as a classifier's, are ignored. Raises ConfigurationError naming tensors that are missing or
        have another shape.
        """
        own = self.backbone.state_dict()
        missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
        odd = [key for key in own if key in state and state[key].shape != own[key].shape]
        if missing:
            raise ConfigurationError(
                f"the weights lack {len(missing)} of {self.name}'s tensors, such as {missing[:1]}"
            )
        if odd:
            raise ConfigurationError(f"the weights of {self.name} have other shapes, such as {odd[:1]}")
        self.backbone.load_state_dict({key: state.get(key, value) for key, value in own.items()})


def _backbone(name: str) -> nn.Module:
    import timm  # takes two seconds, so only if such a network is needed

    try:
        return cast(nn.Module, timm.create_model(name, pretrained=False, features_only=True))
    except (RuntimeError, ValueError, AssertionError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(
            f"backbone {name}: timm has none of that name, or it gives no feature maps ({reason}); "
            "timm.list_models() names them"
        ) from error


def fold_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution registered right before it; the module must be in evaluation mode.

    The activation that timm keeps inside its norms stays in place. Registration order equals execution order in this
    project's own layers and in timm's convolutional backbones; tests compare the outputs.
    """
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None:
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            fold_norms(child)
        before = (name, child) if isinstance(child, nn.Conv2d) else None
