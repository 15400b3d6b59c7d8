"""A multi-label defect detector: a torchvision backbone with one logit per defect, and a bundle to keep it in.

config.json           kind "detector", architecture, labels, calibration, thresholds, dataset fingerprint, scores
detector.safetensors  weights, float32
model_card.md         for people; not part of the version

A logit z of a label becomes a probability by Platt scaling, p = sigmoid(a z + b) (Platt, 1999), and a probability a
*score*, which is what label maps compare: piecewise linear in p, so that the label's tuned threshold is 0.5.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from model.bundle import CONFIG, DETECTOR, pack, pack_tensors, unpack, unusable
from model.config import from_mapping, require, require_choice
from model.errors import BundleError

WEIGHTS = "detector.safetensors"

#: Backbones by torchvision's name. The small one reads some hundred images a second on a CPU core.
BACKBONES: dict[str, Callable[..., nn.Module]] = {
    name: getattr(torchvision.models, name)
    for name in (
        *("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0"),
        *("resnet18", "resnet34", "resnet50", "convnext_tiny"),
    )
}
#: Every backbone halves its input five times.
SMALLEST_SIDE = 32
#: What torchvision's weights expect of pixels in [0, 1], by channel.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Of batch normalisation's running statistics: torch's usual one. Some backbones have a hundredth, and a training of a
#: few hundred steps would end with statistics of its random start.
MOMENTUM = 0.1


@dataclass(frozen=True)
class DetectorConfig:
    """Architecture of a detector. labels: names of defects, one logit each."""

    labels: tuple[str, ...]
    # resnet18 or efficientnet_b0 where a GPU is at hand: they see more and cost ten times as much.
    backbone: str = "mobilenet_v3_small"

    def __post_init__(self) -> None:
        require_choice("backbone", self.backbone, tuple(BACKBONES))
        require(
            0 < len(self.labels) == len(set(self.labels)) and all(self.labels),
            f"a detector needs labels, each once and none empty, not {', '.join(self.labels) or 'none'}",
        )


@dataclass(frozen=True)
class Calibration:
    """From one label's logit to its probability, and the probability from which the label is given."""

    scale: float = 1.0
    offset: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        require(self.scale > 0, f"calibration scale is {self.scale}; a larger logit must mean more")
        require(0 < self.threshold < 1, f"threshold is {self.threshold}; it must lie between 0 and 1")


class Detector(nn.Module):
    """Images (B,3,S,S) float in [-1,1], S of SMALLEST_SIDE or more, to logits (B,L)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        """Random weights."""
        super().__init__()
        self.config = config
        self.backbone = BACKBONES[config.backbone](weights=None, num_classes=len(config.labels))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float32 (B,L)."""
        logits: Tensor = self.backbone((x * 0.5 + 0.5 - self.mean) / self.deviation)
        return logits.float()

    @property
    def head(self) -> str:
        """Name of the layer with one row per label."""
        return [name for name, module in self.named_modules() if isinstance(module, nn.Linear)][-1]


def probabilities(logits: Tensor, calibrations: list[Calibration]) -> Tensor:
    """(B,L) logits to (B,L) calibrated probabilities."""
    scale = logits.new_tensor([one.scale for one in calibrations])
    offset = logits.new_tensor([one.offset for one in calibrations])
    return torch.sigmoid(logits * scale + offset)


def scores(probability: Tensor, calibrations: list[Calibration]) -> Tensor:
    """(B,L) probabilities to (B,L) scores in [0,1]: linear from 0 to 0.5 at the label's threshold, and on to 1."""
    threshold = probability.new_tensor([one.threshold for one in calibrations])
    below, above = probability / threshold, (probability - threshold) / (1 - threshold)
    return torch.where(probability < threshold, 0.5 * below, 0.5 + 0.5 * above)


@torch.no_grad()
def transfer_detector(new: Detector, state: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[str]:
    """Load the weights `state` of a detector with the same backbone and `labels` into `new`, in place.

    Labels keep what was learned for their names; returns those that start afresh. Raises ConfigurationError where
    the layers differ.
    """
    merged, moved = dict(state), [name for name in new.config.labels if name in labels]
    fresh = new.state_dict()
    for name in (f"{new.head}.weight", f"{new.head}.bias"):
        value = fresh[name].clone()
        require(
            name in state and state[name].shape[1:] == value.shape[1:],
            "the weights are of another backbone: give the same --backbone",
        )
        for label in moved:
            value[new.config.labels.index(label)] = state[name][labels.index(label)]
        merged[name] = value
    _load(new, merged)
    return [name for name in new.config.labels if name not in moved]


@torch.no_grad()
def load_backbone(new: Detector, state: Mapping[str, Tensor]) -> None:
    """Load torchvision's own weights (of any number of classes) into `new`, all but the last layer, in place."""
    fresh = new.state_dict()
    merged = {f"backbone.{name}": value for name, value in state.items()}
    for name in (f"{new.head}.weight", f"{new.head}.bias"):
        merged[name] = fresh[name]
    _load(new, merged)


def _load(new: Detector, state: Mapping[str, Tensor]) -> None:
    try:
        new.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"the weights do not fit backbone {new.config.backbone}: {reason}") from error


@dataclass(frozen=True)
class DetectorBundle:
    """A loaded bundle. detector: in eval mode, float32, on the CPU. calibrations: by label, in the labels' order.
    version: 64 hex digits, hash of the contents.
    """

    detector: Detector
    calibrations: list[Calibration]
    image_size: int
    config: dict[str, Any]
    version: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The defects that it tells."""
        return self.detector.config.labels


def save_detector(
    folder: Path,
    detector: Detector,
    calibrations: list[Calibration],
    image_size: int,
    card: str,
    details: Mapping[str, Any],
) -> str:
    """Write a bundle into `folder` and return its version; details: dataset, scores and the like, JSON values."""
    labels = detector.config.labels
    config = {
        **details,
        "kind": DETECTOR,
        "detector": {**asdict(detector.config), "labels": list(labels)},
        "image_size": image_size,
        "calibration": {name: asdict(one) for name, one in zip(labels, calibrations, strict=True)},
    }
    return pack(folder, {WEIGHTS: pack_tensors(detector.state_dict())}, config, card)


def load_detector(folder: Path) -> DetectorBundle:
    """Read and verify a bundle; executes nothing of it. Raises BundleError naming the file and the remedy."""
    config, data, version = unpack(folder, (WEIGHTS,), DETECTOR)
    with unusable(folder):
        given = {**config["detector"], "labels": tuple(config["detector"]["labels"])}
        detector = Detector(from_mapping(DetectorConfig, given, str(folder / CONFIG)))
        detector.load_state_dict(load_tensors(data[WEIGHTS]))
        calibrations = [
            from_mapping(Calibration, config["calibration"][label], str(folder / CONFIG))
            for label in detector.config.labels
        ]
    return DetectorBundle(detector.eval(), calibrations, config["image_size"], config, version)
