"""A multi-label defect detector: a pretrained encoder with one logit per defect, and its bundle.

config.json           kind "detector", architecture, labels, calibration, thresholds, dataset fingerprint, scores
detector.safetensors  weights, float16
model_card.md         for people; not part of the version

Platt scaling turns a label's logit z into a probability, p = sigmoid(a z + b) (Platt, 1999). Label maps compare a
*score*: a piecewise linear function of p that is 0.5 at the label's tuned threshold.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from model.bundle import CONFIG, DETECTOR, half_precision, pack, unpack, unusable
from model.config import PRETRAINED_MULTIPLE, from_mapping, require
from model.encoder import NEEDED, Encoder, fold_norms
from model.errors import BundleError
from model.layers import require_sides

WEIGHTS = "detector.safetensors"

#: Channels to which each level of the encoder's features is reduced before pooling.
WIDTH = 64
#: Channels and grid side of the features that keep the picture's layout. Pooling over the whole picture would lose the
#: direction in which a product is tilted.
LAYOUT_WIDTH, LAYOUT_GRID = 16, 8


@dataclass(frozen=True)
class DetectorConfig:
    """Architecture of a detector. labels: names of defects, one logit each. backbone: timm's name."""

    labels: tuple[str, ...]
    backbone: str = "tf_efficientnet_lite0"
    # The batch norms of a pretrained backbone keep their statistics; a backbone with random weights must learn them.
    freeze_norms: bool = True

    def __post_init__(self) -> None:
        require(
            0 < len(self.labels) == len(set(self.labels)) and all(self.labels),
            f"a detector needs labels, each once and none empty, not {', '.join(self.labels) or 'none'}",
        )


@dataclass(frozen=True)
class Calibration:
    """The mapping from one label's logit to its probability, and the threshold from which the label is given."""

    scale: float = 1.0
    offset: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        require(self.scale > 0, f"calibration scale is {self.scale}; a larger logit must mean more")
        require(0 < self.threshold < 1, f"threshold is {self.threshold}; it must lie between 0 and 1")


class Detector(nn.Module):
    """Maps images (B,3,S,S) float in [-1,1], S a multiple of PRETRAINED_MULTIPLE, to logits (B,L).

    Every scale of the encoder contributes what is anywhere in the picture, since a faint mark may show only at 1/8 of
    the image's size. The coarsest scale also contributes the layout.
    """

    def __init__(self, config: DetectorConfig) -> None:
        """Use random weights. Raises ConfigurationError for a backbone that timm lacks or that does not fit."""
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.backbone, config.freeze_norms)
        channels = self.encoder.channels
        self.views = nn.ModuleList(nn.Conv2d(channels[level], WIDTH, 1) for level in NEEDED)
        self.layout = nn.Conv2d(channels[max(NEEDED)], LAYOUT_WIDTH, 1)
        pooled = 2 * WIDTH * len(NEEDED) + LAYOUT_WIDTH * LAYOUT_GRID**2
        self.head = nn.Linear(pooled, len(config.labels))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B,L) float32. Raises ConfigurationError for other sides."""
        require_sides(x, PRETRAINED_MULTIPLE)
        features = self.encoder(x)
        parts = []
        for level, view in zip(NEEDED, self.views, strict=True):
            activation = F.relu(view(features[level]))
            parts += [activation.mean(dim=(2, 3)), activation.amax(dim=(2, 3))]
        layout = F.adaptive_avg_pool2d(F.relu(self.layout(features[max(NEEDED)])), LAYOUT_GRID)
        logits: Tensor = self.head(torch.cat([*parts, layout.flatten(1)], dim=1))
        return logits.float()

    def as_stored(self) -> "Detector":
        """Return a copy with weights rounded as in a bundle, which is the one to calibrate and measure."""
        rounded = copy.deepcopy(self)
        rounded.load_state_dict(half_precision(self.state_dict()))
        return rounded

    def for_inference(self) -> "Detector":
        """Return a copy in evaluation mode whose batch norms are folded into the convolutions before them."""
        folded = copy.deepcopy(self).eval()
        fold_norms(folded)
        return folded


def probabilities(logits: Tensor, calibrations: list[Calibration]) -> Tensor:
    """Return calibrated probabilities (B,L) of logits (B,L)."""
    scale = logits.new_tensor([one.scale for one in calibrations])
    offset = logits.new_tensor([one.offset for one in calibrations])
    return torch.sigmoid(logits * scale + offset)


def scores(probability: Tensor, calibrations: list[Calibration]) -> Tensor:
    """Return scores (B,L) in [0,1] of probabilities (B,L): linear from 0 to 0.5 at the label's threshold, then to 1."""
    threshold = probability.new_tensor([one.threshold for one in calibrations])
    below, above = probability / threshold, (probability - threshold) / (1 - threshold)
    return torch.where(probability < threshold, 0.5 * below, 0.5 + 0.5 * above)


@torch.no_grad()
def transfer_detector(new: Detector, state: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[str]:
    """Load the weights `state` of a detector with the same backbone and `labels` into `new`, in place.

    Labels that both have keep their weights; returns the labels that start with new ones. Raises BundleError if the
    layers differ.
    """
    merged, kept = dict(state), [name for name in new.config.labels if name in labels]
    for name in ("head.weight", "head.bias"):
        value = new.state_dict()[name].clone()
        if name in state and state[name].shape[1:] == value.shape[1:]:
            for label in kept:
                value[new.config.labels.index(label)] = state[name][labels.index(label)]
        merged[name] = value
    try:
        new.load_state_dict(merged)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"the weights do not fit backbone {new.config.backbone}: {reason}") from error
    return [name for name in new.config.labels if name not in kept]


@dataclass(frozen=True)
class DetectorBundle:
    """A loaded bundle. detector: in eval mode, float32, on the CPU. calibrations: one per label, in the labels' order.

    version: 64 hex digits, hash of the contents.
    """

    detector: Detector
    calibrations: list[Calibration]
    image_size: int
    config: dict[str, Any]
    version: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The defects that the detector recognises."""
        return self.detector.config.labels


def save_detector(
    folder: Path,
    detector: Detector,
    calibrations: list[Calibration],
    image_size: int,
    card: str,
    details: Mapping[str, Any],
) -> str:
    """Write a bundle into `folder` and return its version. details: dataset, scores and the like, JSON values."""
    labels = detector.config.labels
    config = {
        **details,
        "kind": DETECTOR,
        "detector": {**asdict(detector.config), "labels": list(labels)},
        "image_size": image_size,
        "calibration": {name: asdict(one) for name, one in zip(labels, calibrations, strict=True)},
    }
    return pack(folder, {WEIGHTS: save_tensors(half_precision(detector.state_dict()))}, config, card)


def load_detector(folder: Path) -> DetectorBundle:
    """Return the verified bundle in `folder`; no code of it runs. Raises BundleError naming the file and the remedy."""
    config, data, version = unpack(folder, (WEIGHTS,), DETECTOR)
    with unusable(folder):
        given = {**config["detector"], "labels": tuple(config["detector"]["labels"])}
        detector = Detector(from_mapping(DetectorConfig, given, str(folder / CONFIG)))
        detector.load_state_dict(load_tensors(data[WEIGHTS]))  # float16 into float32
        calibrations = [
            from_mapping(Calibration, config["calibration"][label], str(folder / CONFIG))
            for label in detector.config.labels
        ]
    return DetectorBundle(detector.eval(), calibrations, config["image_size"], config, version)
