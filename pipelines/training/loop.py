"""The training loop: the same in process and in every Ray Train worker. Knows rows, storage and the model, not Ray."""

import io
import logging
import pickle
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from model.config import SIDE_MULTIPLE, require
from model.errors import CatalogRepairError, ConfigurationError
from model.precision import autocast, choose_device, choose_precision, memory_format
from model.recipes import MethodConfig, build_method
from model.schedule import step_rate
from model.training_step import OptimizerConfig, TrainingStep
from pipelines import storage
from pipelines.label_map import LabelMap
from pipelines.training.data import Sample, batches, collate, crop_row, semi_paired, shuffled

logger = logging.getLogger("train")

#: Below, the deepest feature maps are smaller than the padding and the strides need.
SMALLEST_SIDE = 32

#: What torch raises, by the place of the damage, for a checkpoint that is no checkpoint of these networks.
DAMAGED = (
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
    struct.error,
)

#: Decoded rows of an epoch, for one worker: what `data.decode_row` returns.
EpochRows = Callable[[int], Iterable[dict[str, Any]]]
Rows = list[dict[str, Any]]


class TrainingError(CatalogRepairError):
    """Training cannot go on: the message names the step and the last good checkpoint."""


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a training's result, besides the data. Plain values: it travels to workers as it is."""

    output: str
    method: MethodConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    image_size: int = 256
    steps: int = 1000
    batch_size: int = 1  # per worker
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    # Groups whose samples also enter cycle and identity (u); the paper leaves the angle group out.
    cycle_groups: frozenset[str] = frozenset()
    # Groups cropped at random. Never a group whose defect is where things stand in the frame.
    cropped_groups: frozenset[str] = frozenset()
    # (defect, N): its rows are used N times an epoch. For a defect that is harder than the others, or rarer.
    repeat: tuple[tuple[str, int], ...] = ()
    # Decoded rows to shuffle among, per worker: 2 * 3 * image_size^2 bytes each. Raise it where shards are sorted.
    shuffle_rows: int = 512
    log_every: int = 20
    checkpoint_every: int = 500
    grid_every: int = 500
    # Factors of the reconstruction term by type id; empty for none.
    task_weight: tuple[float, ...] = ()
    # A bundle's folder to start from, or none.
    init_from: str | None = None

    def __post_init__(self) -> None:
        for name in (
            "image_size",
            "steps",
            "batch_size",
            "shuffle_rows",
            "log_every",
            "checkpoint_every",
            "grid_every",
        ):
            require(getattr(self, name) >= 1, f"{name} must be 1 or more, got {getattr(self, name)}")
        require(
            self.image_size % SIDE_MULTIPLE == 0 and self.image_size >= SMALLEST_SIDE,
            f"--image-size {self.image_size}: use a multiple of {SIDE_MULTIPLE}, {SMALLEST_SIDE} or more",
        )

    def uses(self, row: Mapping[str, Any]) -> int:
        """How often an epoch uses a training row: not at all where no term learns from it."""
        wanted = self.method.uses_unpaired or row["pairing"] == "paired"
        return dict(self.repeat).get(row["defect"], 1) if wanted else 0

    @property
    def checkpoint(self) -> str:
        """Where this training keeps its state."""
        return storage.join(self.output, "checkpoint.pt")


def epoch_batches(
    rows: Iterable[dict[str, Any]], label_map: LabelMap, settings: TrainSettings, seed: tuple[int, ...]
) -> Iterator[list[Sample]]:
    """One epoch's batches from decoded rows; `seed` fixes order, crops and which unpaired images meet."""
    rng = np.random.default_rng(seed)
    cropped = (crop_row(row, settings.image_size, rng) for row in shuffled(rows, settings.shuffle_rows, rng))
    samples = semi_paired(cropped, label_map, settings.cycle_groups, settings.method.uses_unpaired, rng)
    return batches(samples, settings.batch_size)


def everywhere(condition: bool) -> bool:
    """True where `condition` holds in every process: workers must end an epoch together, or one waits for ever."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return condition
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    flag = torch.tensor([int(condition)], device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag.item())


class Training:
    """One worker's training: state, the loop, checkpoints. Rank 0 writes; all ranks compute the same networks."""

    def __init__(
        self,
        settings: TrainSettings,
        label_map: LabelMap,
        init: dict[str, torch.Tensor] | None,
        rank: int = 0,
    ) -> None:
        """init: weights of a bundle to start G_XY from (a bundle holds no other), or None."""
        self.settings, self.label_map, self.rank = settings, label_map, rank
        self.device = choose_device(settings.device)
        torch.manual_seed(settings.seed)  # the same initial weights on every rank
        weight = torch.tensor(settings.task_weight) if settings.task_weight else None
        method = build_method(settings.method, weight)
        if init is not None:
            method.generator.load_state_dict(init)
        precision = choose_precision(settings.precision, self.device)
        self.layout = memory_format(precision)
        method = method.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.step_once = TrainingStep(method, settings.optimizer, autocast(self.device, precision))
        self.step, self.epoch = 0, 0
        self.history: list[dict[str, float]] = []
        self._restore()

    def _restore(self) -> None:
        """Continue from the checkpoint of this output, where there is one.

        Raises ConfigurationError for one that is damaged or of other networks.
        """
        if not storage.exists(self.settings.checkpoint):
            return
        data = io.BytesIO(storage.read_bytes(self.settings.checkpoint))
        try:
            saved = torch.load(data, map_location=self.device, weights_only=True)
            self.step_once.load_state(saved["state"])
            self.step, self.epoch, self.history = saved["step"], saved["epoch"], saved["history"]
        except DAMAGED as error:
            raise ConfigurationError(
                f"cannot continue from {self.settings.checkpoint}: it is damaged or of other networks; "
                "--resume needs the same network flags; --overwrite starts anew"
            ) from error
        logger.info("resumed at step %d of %d", self.step, self.settings.steps)

    def save(self) -> None:
        """Write the checkpoint (rank 0): whole or not at all."""
        if self.rank:
            return
        buffer = io.BytesIO()
        state = {
            "state": self.step_once.state(),
            "step": self.step,
            "epoch": self.epoch,
            "history": self.history,
        }
        torch.save(state, buffer)
        storage.write_bytes(self.settings.checkpoint, buffer.getvalue())

    def run(
        self,
        epoch_rows: EpochRows,
        report: Callable[[dict[str, float]], None],
        on_grid: Callable[["Training"], None],
    ) -> None:
        """Train up to settings.steps. `report` gets a record every log_every steps, on every rank alike.

        A record has the losses' means since the last one: single batches are of one task or another and say little.
        """
        settings, clock, since = self.settings, time.monotonic(), self.step
        sums: dict[str, torch.Tensor] = {}  # since the last record, on the device: no step waits for a GPU
        while self.step < settings.steps:
            self.epoch += 1
            started = self.step
            seed = (settings.seed, self.epoch, self.rank)
            for samples in self._together(
                epoch_batches(epoch_rows(self.epoch), self.label_map, settings, seed)
            ):
                rate = step_rate(self.step, settings.steps, settings.optimizer.rate)
                for name, value in self.step_once(collate(samples, self.device, self.layout), rate).items():
                    sums[name] = sums[name] + value if name in sums else value
                self.step += 1
                if self.step % settings.log_every == 0 or self.step == settings.steps:
                    now = time.monotonic()
                    made = self.step - since
                    losses = {name: float(value) / made for name, value in sums.items()}
                    self._record(losses, rate, made * settings.batch_size / (now - clock), report)
                    clock, since = now, self.step
                    sums.clear()
                if self.step % settings.checkpoint_every == 0 or self.step == settings.steps:
                    self.save()
                if self.step % settings.grid_every == 0 or self.step == settings.steps:
                    on_grid(self)
                if self.step == settings.steps:
                    return
            require(
                self.step > started,
                f"an epoch holds fewer usable samples than one batch of {settings.batch_size}: "
                "use a smaller --batch-size, fewer --workers or more data",
            )

    def _together(self, found: Iterator[list[Sample]]) -> Iterator[list[Sample]]:
        """The batches for as long as every worker has one."""
        while True:
            samples = next(found, None)
            if not everywhere(samples is not None):
                return
            if samples is not None:
                yield samples

    def _record(
        self, losses: dict[str, float], rate: float, speed: float, report: Callable[[dict[str, float]], None]
    ) -> None:
        if not np.isfinite(losses["total"]):
            raise TrainingError(
                f"the loss is {losses['total']} at step {self.step}; the last good state is "
                f"{self.settings.checkpoint}. "
                "Lower --rate, or use --precision float32"
            )
        record = {"step": self.step, "epoch": self.epoch, "rate": rate, "images_per_second": speed, **losses}
        self.history.append(record)
        report(record)
