"""Trains a detector, with the same loop, draws and checkpoints as a generator."""

from collections.abc import Mapping

import numpy as np
import torch

from model.detector.network import Detector
from model.detector.training_step import DetectionBatch, DetectorStep
from model.precision import memory_format
from pipelines.images.pixels import to_tensor
from pipelines.training.detector.samples import Sample
from pipelines.training.detector.settings import DetectorSettings
from pipelines.training.feed.batches import Batch
from pipelines.training.feed.order import Draw
from pipelines.training.loop import Loop


class DetectorTraining(Loop):
    """Train a detector in one worker."""

    settings: DetectorSettings
    method: Detector
    step_once: DetectorStep

    def build(self, init: Mapping[str, torch.Tensor] | None) -> None:
        """Build the detector. init: its whole initial state, or None."""
        detector = Detector(self.settings.detector)
        if init is not None:
            detector.load_state_dict(init)
        self.layout = memory_format(self.precision, self.device, detector)
        self.method = detector.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        settings = self.settings
        self.step_once = DetectorStep(self.method, settings.optimizer, settings.weight_decay, self.precision)

    def update(self, batch: Batch, rate: float) -> dict[str, torch.Tensor]:
        """Make one update on the draws' sources and clean images. Returns a loss per label."""
        size = self.settings.batch_size
        parts = [batch.draws[start : start + size] for start in range(0, len(batch.draws), size)]
        return self.step_once([self._collate(self._samples(part)) for part in parts], rate)

    def _samples(self, draws: list[Draw]) -> list[Sample]:
        config = self.settings.samples
        return [sample for draw in draws for sample in config.training_samples(draw)]

    def _collate(self, samples: list[Sample]) -> DetectionBatch:
        images = to_tensor(np.stack([sample.image for sample in samples]), self.device)
        present, known = (
            torch.tensor(np.stack(values), dtype=torch.float32, device=self.device)
            for values in ([s.present for s in samples], [s.known for s in samples])
        )
        return DetectionBatch(images.contiguous(memory_format=self.layout), present, known)
