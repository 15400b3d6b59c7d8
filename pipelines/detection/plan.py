"""A detector's training, resolved: what the command line and the data say, checked before anything starts."""

import io
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from model.detector import Detector, DetectorConfig, load_backbone, transfer_detector
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.detection.bundles import read_detector
from pipelines.detection.settings import DetectorSettings
from pipelines.training.checkpoints import DAMAGED
from pipelines.training.index import TEST, VALIDATION, Index, build_index, check_tasks
from pipelines.training.plan import LoopPlan
from pipelines.training.source import TrainingSource

logger = logging.getLogger("train")


@dataclass(frozen=True, kw_only=True)
class DetectorPlan(LoopPlan):
    """A detector's training; it is calibrated on the index's validation part."""

    settings: DetectorSettings


def inspect(source: TrainingSource, validation_share: float, allow_missing: bool) -> Index:
    """The data's index. Raises ConfigurationError for everything in the data that would make the training fail."""
    index = build_index(source.shards, source.label_map, validation_share)
    check_tasks(index, source.label_map, pairs=True, unpaired=True, allow_missing=allow_missing)
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
    config: DetectorConfig, seed: int, init_from: str | None, backbone_weights: str | None
) -> Mapping[str, Tensor] | None:
    """The state to start from, of a bundle or of torchvision's own weights (a state dict); None for neither.

    Raises ConfigurationError where the architecture differs.
    """
    torch.manual_seed(seed)  # new labels start alike in every run
    detector = Detector(config)
    if init_from is not None:
        bundle = read_detector(init_from, "--init-from")
        with _blamed(f"--init-from {init_from}"):
            new = transfer_detector(detector, bundle.detector.state_dict(), bundle.labels)
        if new:
            logger.info("--init-from %s: %s start afresh", init_from, ", ".join(new))
    elif backbone_weights is not None:
        weights = _read_weights(backbone_weights)
        with _blamed(f"--backbone-weights {backbone_weights}"):
            load_backbone(detector, weights)
    else:
        return None
    return detector.state_dict()


@contextmanager
def _blamed(flag: str) -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{flag}: {error}") from error


def _read_weights(uri: str) -> dict[str, Tensor]:
    """A state dict as `torch.save` or torchvision's download has it. Executes nothing of it."""
    storage.check_readable(uri, "--backbone-weights")
    with storage.as_configuration_error(uri, "--backbone-weights", "read"):
        data = storage.read_bytes(uri)
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return {str(name): value.float() for name, value in state.items()}
    except DAMAGED as error:
        raise ConfigurationError(
            f"--backbone-weights {uri}: no state dict of tensors ({type(error).__name__})"
        ) from error
