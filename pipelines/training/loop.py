"""Runs the training loop, for any networks, in process and in every Ray Train worker. Does not depend on Ray."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from model.errors import ConfigurationError
from model.precision import choose_device, choose_precision
from model.schedule import step_rate
from model.training_step import is_distributed
from pipelines.contracts.label_map import Defect, LabelMap
from pipelines.shards.index import Index
from pipelines.shards.reading import TrainingError
from pipelines.training.checkpoints import DAMAGED, Checkpoints
from pipelines.training.feed.batches import Batch, Load, batches
from pipelines.training.feed.order import WorkerEpoch
from pipelines.training.settings import LoopSettings
from pipelines.training.watch import Trouble, Watch

logger = logging.getLogger("train")

Record = dict[str, float]


class DivergedError(TrainingError):
    """Signal that losses or weights are not finite, or that the loss diverges. Raised in every worker at the same step.

    here: the trouble arose in this worker.
    """

    def __init__(self, message: str, here: bool) -> None:
        super().__init__(message)
        self.here = here


#: Contravariant: a follower of any loop can also follow a generator's.
Followed = TypeVar("Followed", contravariant=True)


class Follower(Protocol[Followed]):
    """React to events of a running training. All workers make the same calls."""

    def record(self, training: Followed, record: Record) -> None:
        """Handle a record, every log_every steps."""

    def saved(self, training: Followed) -> None:
        """Handle a written checkpoint. Also called once when the training has diverged."""

    def grid(self, training: Followed) -> None:
        """Draw sample images, every grid_every steps."""

    def validate(self, training: Followed) -> None:
        """Start a validation, every validate_every steps and at the last step, before the checkpoint."""

    def resumed(self, training: Followed) -> None:
        """Handle the start of a training that continues from a checkpoint."""


class Step(Protocol):
    """Hold networks with their optimisers."""

    def state(self) -> Mapping[str, Any] | None:
        """Return all that resuming needs, as tensors and plain values. All workers must call it; rank 0 gets it."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""


class Loop(ABC):
    """Train any networks in one worker: state, loop, checkpoints. Only rank 0 writes; all ranks have equal networks."""

    method: nn.Module
    step_once: Step
    layout: torch.memory_format  # of the networks and their images

    def __init__(
        self,
        settings: LoopSettings,
        label_map: LabelMap,
        init: Mapping[str, torch.Tensor] | None = None,
        rank: int = 0,
        workers: int = 1,
    ) -> None:
        """init: initial weights for `build`, or None."""
        self.settings, self.label_map, self.rank, self.workers = settings, label_map, rank, workers
        self.device = choose_device(settings.device)
        self.precision = choose_precision(settings.precision, self.device)
        torch.manual_seed(settings.seed)
        self.build(init)
        self.defects: dict[int, Defect] = {defect.id: defect for defect in label_map.defects.values()}
        self.step, self.epoch, self.taken = 0, 1, 0
        self.history: list[Record] = []
        self.checkpoints = Checkpoints(settings.checkpoints, settings.keep)
        self._restore()

    @abstractmethod
    def build(self, init: Mapping[str, torch.Tensor] | None) -> None:
        """Set `method`, the networks, their `layout`, and `step_once`, which updates them."""

    @abstractmethod
    def update(self, batch: Batch, rate: float) -> dict[str, torch.Tensor]:
        """Make one update. Returns scalar losses, "total" among them."""

    def _restore(self) -> None:
        """Continue from the newest readable checkpoint of this output, if there is one.

        Raises ConfigurationError if it belongs to other networks, or if workers see different ones.
        """
        newest = self.checkpoints.load()
        if newest is not None:
            self._continue(newest[1])
        if not everywhere_alike((self.step, self.epoch, self.taken)):
            raise ConfigurationError(
                f"--output {self.settings.output} must be storage that all nodes see: "
                f"its checkpoints are not the same on all of them (step {self.step} on this one)"
            )

    def _continue(self, saved: dict[str, Any]) -> None:
        try:
            self.step_once.load_state(saved["state"])
            self.step, self.history = int(saved["step"]), list(saved["history"])
            self.epoch, self.taken = self._position(saved["position"])
        except DAMAGED as error:
            raise ConfigurationError(
                f"cannot continue from {self.checkpoints.newest()}: it belongs to other networks; "
                "--resume needs the same network flags; use --overwrite to start over"
            ) from error
        if self.rank == 0:
            logger.info("resumed at step %d of %d", self.step, self.settings.steps)

    def _position(self, saved: dict[str, int]) -> tuple[int, int]:
        """Return the epoch and how many of its batches are done.

        If the number of workers or the batch size has changed, the epoch continues after as many samples, rounded down.
        """
        before, now = saved["workers"] * saved["size"], self.workers * self.settings.update_size
        if before != now and self.rank == 0:
            logger.warning(
                "%d samples an update now and %d before: the epoch continues with other samples than it would have",
                *(now, before),
            )
        return saved["epoch"], saved["taken"] * before // now

    def save(self) -> None:
        """Write the checkpoint (rank 0), whole or not at all.

        Raises DivergedError in every worker if a weight is not finite; earlier checkpoints are good.
        """
        bad = [name for name, value in self.method.named_parameters() if not torch.isfinite(value).all()]
        if bad:
            raise self._diverged(Trouble(self.step, f"the weights {bad[0]} are not finite", self.step - 1))
        step_state = self.step_once.state()
        if self.rank:
            return
        position = {
            "epoch": self.epoch,
            "taken": self.taken,
            "workers": self.workers,
            "size": self.settings.update_size,
        }
        state = {
            "step": self.step,
            "position": position,
            "history": self.history,
            "state": step_state,
        }
        self.checkpoints.save(self.step, state)

    def run(self, index: Index, load: Load, follower: Follower[Any]) -> None:
        """Train up to settings.steps.

        A record has the mean losses since the previous record. Raises DivergedError, after the last record, and the
        errors of reading and decoding.
        """
        try:
            self._run(index, load, follower)
        except DivergedError:
            follower.saved(self)
            raise

    def _run(self, index: Index, load: Load, follower: Follower[Any]) -> None:
        settings, watch = self.settings, Watch()
        clock, since = time.monotonic(), self.step
        sampling = settings.sampling(self.label_map)

        def epoch_of(epoch: int) -> WorkerEpoch:
            return WorkerEpoch(index, sampling, settings.seed, epoch, self.rank, self.workers)

        if self.step:
            follower.resumed(self)
        if self.step >= settings.steps:
            return
        first = self.step + 1
        for batch in batches(epoch_of, load, settings.update_size, self.epoch, self.taken):
            rate = step_rate(self.step, settings.steps, settings.optimizer.rate)
            # All randomness inside a step follows from its number, so that a resumed training repeats it.
            seed = np.random.SeedSequence((settings.seed, self.step, self.rank)).generate_state(1)[0]
            torch.manual_seed(int(seed))
            losses = self.update(batch, rate)
            self.step, self.epoch, self.taken = self.step + 1, batch.epoch, batch.taken
            self._log_first_step(first, clock)
            watch.add(self.step, losses, [self.defects[draw.source.type].name for draw in batch.draws])
            if self._due(settings.log_every):
                means, trouble = watch.collect()
                now, made = time.monotonic(), self.step - since
                speed = made * settings.update_size * self.workers / (now - clock)
                record = {
                    **means,  # first: a detector's losses are named after defects, which may have any name
                    "step": self.step,
                    "epoch": self.epoch,
                    "rate": rate,
                    "images_per_second": speed,
                }
                clock, since = now, self.step
                self.history.append(record)
                follower.record(self, record)
                self._stop_for(trouble)
            if self._due(settings.grid_every):
                follower.grid(self)
            if self.validates:
                follower.validate(self)
            if self._due(settings.checkpoint_every) or self.validates:
                self.save()
                follower.saved(self)
            if self.step >= settings.steps:
                return

    def _log_first_step(self, first: int, began: float) -> None:
        """Log how long the first step took, right after it."""
        if self.step == first and self.rank == 0:
            logger.info("the first step, reading included, took %.1f s", time.monotonic() - began)

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.settings.steps

    @property
    def validates(self) -> bool:
        """Return True if this step is measured on the validation part."""
        return self.settings.validate_every > 0 and self._due(self.settings.validate_every)

    def _stop_for(self, trouble: Trouble | None) -> None:
        """Raise DivergedError in every worker if one has trouble."""
        if anywhere(trouble is not None):
            raise self._diverged(trouble)

    def _diverged(self, trouble: Trouble | None) -> DivergedError:
        here = trouble is not None
        trouble = trouble or Trouble(self.step, "the losses of another worker diverged", self.step)
        return DivergedError(
            f"stopped at step {trouble.step}: {trouble.reason}. The last good checkpoint is "
            f"{self.checkpoints.newest(trouble.good)}: lower --rate or use --precision float32, "
            "and continue with --resume",
            here,
        )


def everywhere_alike(numbers: tuple[int, ...]) -> bool:
    """Return True if every process has the same numbers."""
    if not is_distributed():
        return True
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    mine = torch.tensor(numbers, device=device)
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, mine)
    return all(torch.equal(one, mine) for one in gathered)


def anywhere(condition: bool) -> bool:
    """Return True if `condition` holds in any process. If one worker stops, all must, or the others wait for ever."""
    if not is_distributed():
        return condition
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    flag = torch.tensor([int(condition)], device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())
