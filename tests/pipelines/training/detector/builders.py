"""A small training of a detector in process."""

from pathlib import Path
from typing import Any

from model.detector.network import DetectorConfig
from model.training_step import OptimizerConfig
from pipelines.shards.source import open_source
from pipelines.shards.validation_part import DETECTOR_SHARE
from pipelines.training.detector.plan import DetectorPlan, inspect
from pipelines.training.detector.settings import DetectorSettings

LABELS = ("wrong_angle", "watermark", "non_white_background")


def plan(data: str, output: Path, **changes: Any) -> DetectorPlan:
    """Four updates of two samples."""
    source = open_source([data])
    index = inspect(source, DETECTOR_SHARE, allow_missing=False)
    settings = DetectorSettings(
        output=str(output),
        optimizer=OptimizerConfig(1e-3, 0.9),
        **{
            "detector": DetectorConfig(LABELS),
            "image_size": 32,
            "steps": 4,
            "batch_size": 2,
            "log_every": 1,
            "checkpoint_every": 2,
            "device": "cpu",
            **changes,
        },
    )
    return DetectorPlan(source=source, index=index, command_line="train", settings=settings)
