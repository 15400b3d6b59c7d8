"""One training step of a detector in plain PyTorch, on any number of processes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.detector.network import Detector
from model.precision import autocast
from model.training_step import (
    OptimizerConfig,
    average_gradients,
    average_statistics,
    broadcast_weights,
    is_first_process,
    parameter_groups,
    process_count,
    sum_over_processes,
)


class DetectionBatch(NamedTuple):
    """A batch. x: (B,3,S,S) float in [-1,1]; present, known: (B,L) float of 0 and 1."""

    x: Tensor
    present: Tensor
    known: Tensor


def detection_losses(logits: Tensor, batch: DetectionBatch, known: Tensor) -> Tensor:
    """Return (L,): each label's sum of binary cross-entropies over the samples for which it is known, divided by
    `known`.

    known: (L,) number of samples in the whole update for which each label is known. The batch may be a part of the
    update: the parts' losses then add up to the mean. A label without such samples has loss 0.
    """
    each = F.binary_cross_entropy_with_logits(logits, batch.present, reduction="none") * batch.known
    return each.sum(0) / known.clamp(min=1)


class DetectorStep:
    """A detector and its optimiser (AdamW); `__call__(batches, rate)` updates it once."""

    def __init__(
        self, detector: Detector, optimizer: OptimizerConfig, decay: float, precision: torch.dtype
    ) -> None:
        """decay: weight decay, against overfitting to few photos."""
        broadcast_weights(detector)
        self.detector, self._precision = detector, precision
        if optimizer.encoder_rate == 0:  # saves a third of the time, because no unused gradients are computed
            detector.encoder.requires_grad_(False)
        betas = (optimizer.beta1, optimizer.beta2)
        groups = parameter_groups(detector.parameters(), detector.encoder.parameters(), optimizer)
        self.optimizer = torch.optim.AdamW(groups, optimizer.rate, betas, weight_decay=decay)

    def __call__(self, batches: Sequence[DetectionBatch], rate: float) -> dict[str, Tensor]:
        """Update at learning rate `rate` with all batches of all processes together.

        Returns detached losses by label over all processes, and their mean as `total`.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.detector.train()
        self.optimizer.zero_grad(set_to_none=True)
        labels = self.detector.config.labels
        known = sum_over_processes(torch.stack([batch.known.sum(0) for batch in batches]).sum(0))
        sums = batches[0].x.new_zeros(len(labels))
        for batch in batches:
            with autocast(batch.x.device, self._precision)():
                logits = self.detector(batch.x)
            losses = detection_losses(logits, batch, known)
            # The gradients are averaged over the processes, while the losses add up.
            (losses.mean() * process_count()).backward()
            sums += losses.detach()
        average_gradients(self.detector.parameters())
        average_statistics(self.detector)
        self.optimizer.step()
        sums = sum_over_processes(sums)
        return {**dict(zip(labels, sums, strict=True)), "total": sums.mean()}

    def state(self) -> dict[str, Any] | None:
        """Return everything that a resumed training needs, in the first of several processes; None in the others."""
        if not is_first_process():
            return None
        return {"detector": self.detector.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.detector.load_state_dict(state["detector"])
        self.optimizer.load_state_dict(state["optimizer"])
