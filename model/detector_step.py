"""One update of a detector in plain torch, on any number of processes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.detector import Detector
from model.precision import autocast
from model.training_step import OptimizerConfig, average_gradients


class DetectionBatch(NamedTuple):
    """x: (B,3,S,S) float in [-1,1]; present, known: (B,L) float of 0 and 1."""

    x: Tensor
    present: Tensor
    known: Tensor


def detection_losses(logits: Tensor, batch: DetectionBatch) -> Tensor:
    """Mean binary cross-entropy of each label over the samples of which it is known, (L,); 0 where there is none."""
    each = F.binary_cross_entropy_with_logits(logits, batch.present, reduction="none") * batch.known
    return each.sum(0) / batch.known.sum(0).clamp(min=1)


class DetectorStep:
    """A detector, its optimiser (AdamW), and `__call__(batches, rate)` that updates it once."""

    def __init__(
        self, detector: Detector, optimizer: OptimizerConfig, decay: float, precision: torch.dtype
    ) -> None:
        """decay: weight decay, which keeps a network with few photos from learning them by heart."""
        self.detector, self._precision = detector, precision
        betas = (optimizer.beta1, optimizer.beta2)
        self.optimizer = torch.optim.AdamW(detector.parameters(), optimizer.rate, betas, weight_decay=decay)

    def __call__(self, batches: Sequence[DetectionBatch], rate: float) -> dict[str, Tensor]:
        """Update at learning rate `rate` with all batches together; detached losses by label, and their mean, total."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.detector.train()
        self.optimizer.zero_grad(set_to_none=True)
        samples = sum(len(batch.x) for batch in batches)
        labels = self.detector.config.labels
        sums = batches[0].x.new_zeros(len(labels))
        for batch in batches:
            with autocast(batch.x.device, self._precision)():
                logits = self.detector(batch.x)
            losses = detection_losses(logits, batch) * (len(batch.x) / samples)
            losses.mean().backward()
            sums += losses.detach()
        average_gradients(self.detector.parameters())
        self.optimizer.step()
        return {**dict(zip(labels, sums, strict=True)), "total": sums.mean()}

    def state(self) -> dict[str, Any]:
        """Everything a resumed training needs."""
        return {"detector": self.detector.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.detector.load_state_dict(state["detector"])
        self.optimizer.load_state_dict(state["optimizer"])
