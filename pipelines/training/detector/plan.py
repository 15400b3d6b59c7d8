"""Resolves a detector's training from the command line and the data, and checks it before anything starts."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.detector.network import Detector, DetectorConfig, transfer_detector
from model.errors import ConfigurationError
from pipelines.inference.detector_bundles import read_detector
from pipelines.shards.index import TEST, VALIDATION, Index, build_index, check_defects
from pipelines.shards.source import TrainingSource
from pipelines.training.detector.settings import DetectorSettings
from pipelines.training.encoder_weights import find_encoder_weights
from pipelines.training.plan import LoopPlan

logger = logging.getLogger("train")


@dataclass(frozen=True, kw_only=True)
class DetectorPlan(LoopPlan):
    """Hold everything that a worker needs for a detector's training. It is calibrated on the validation part."""

    settings: DetectorSettings
    encoder: Mapping[str, str] | None = None  # where the backbone's pretrained weights come from, if any


def inspect(source: TrainingSource, validation_share: float, allow_missing: bool) -> Index:
    """Return the data's index. Raises ConfigurationError for everything in the data that would make a training fail."""
    index = build_index(source.shards, source.label_map, validation_share)
    check_defects(index, source.label_map, pairs=True, unpaired=True, allow_missing=allow_missing)
    for name, defect in source.label_map.defects.items():
        if not index.having(defect.id, 0, VALIDATION).any():
            logger.warning(
                "too few photos to calibrate %s: its scores are uncalibrated; raise --validation-share (%g), or add "
                "photos",
                *(name, validation_share),
            )
    if not index.of_split(TEST).any():
        logger.warning("--data has no rows of the split 'test': the model card has no scores")
    return index


def initial_state(
    config: DetectorConfig, seed: int, init_from: str | None, encoder_weights: str
) -> tuple[Mapping[str, Tensor], Mapping[str, str] | None]:
    """Return the initial state, and the source of the backbone's weights or None.

    The state is that of the bundle --init-from, or random with the backbone weights that --encoder-weights names.
    Raises ConfigurationError if the architecture differs or no such weights are found.
    """
    torch.manual_seed(seed)  # new labels start with the same weights in every run
    detector = Detector(config)
    if init_from is None:
        weights = find_encoder_weights(encoder_weights, detector.encoder)
        return detector.state_dict(), None if weights is None else weights.describe()
    bundle = read_detector(init_from, "--init-from")
    try:
        new = transfer_detector(detector, bundle.detector.state_dict(), bundle.labels)
    except ConfigurationError as error:
        raise ConfigurationError(f"--init-from {init_from}: {error}; give the same --backbone") from error
    if new:
        logger.info("--init-from %s: %s start afresh", init_from, ", ".join(new))
    return detector.state_dict(), bundle.config.get("encoder_weights")
