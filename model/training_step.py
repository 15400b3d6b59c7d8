"""One training step in plain PyTorch: updates generators and discriminators in turn, on any number of processes."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.config import require
from model.layers import ImageGenerator
from model.method import Batch, Fakes, Method


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of Adam, by default those of CycleGAN."""

    rate: float = 2e-4
    beta1: float = 0.5  # 0.9 if there is no adversarial term to destabilise training
    beta2: float = 0.999
    # Rate of a pretrained encoder; None: the rate of the other layers. A fifth of it keeps what pretraining learned.
    encoder_rate: float | None = None
    # Largest norm of the generators' gradients; 0 does not clip, as in the paper. 1 steadies high rates without D.
    clip: float = 0.0

    def __post_init__(self) -> None:
        require(self.rate > 0, f"learning rate is {self.rate}; use a positive one")
        require(
            self.encoder_rate is None or self.encoder_rate >= 0,
            f"--encoder-rate is {self.encoder_rate}; use 0 or more",
        )
        require(self.clip >= 0, f"--clip is {self.clip}; use 0 for none, or a norm")
        require(0 <= self.beta1 < 1 and 0 <= self.beta2 < 1, "Adam's betas must lie in [0, 1)")


def is_distributed() -> bool:
    """Return whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def on_first_process(value: Any) -> list[Any] | None:
    """Return every process's `value`, by rank, in the first process; None in the others. All must call it."""
    if not is_distributed():
        return [value]
    gathered = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(value, gathered)
    return gathered


def process_count() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if is_distributed() else 1


def is_first_process() -> bool:
    """Return whether this is the process that writes what all have computed."""
    return not is_distributed() or dist.get_rank() == 0


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum of every process's `values`, which have one shape and dtype."""
    if not is_distributed():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _unflat(flat: Tensor, into: Sequence[Tensor]) -> None:
    for tensor, piece in zip(into, flat.split([tensor.numel() for tensor in into]), strict=True):
        tensor.copy_(piece.view_as(tensor))


@torch.no_grad()
def broadcast_weights(module: nn.Module) -> None:
    """Copy the first process's parameters and buffers to all, in place. Equal updates then keep networks equal.

    All must call it; nothing happens in a single process.
    """
    if not is_distributed():
        return
    by_type: dict[torch.dtype, list[Tensor]] = defaultdict(list)
    for tensor in (*module.parameters(), *module.buffers()):
        by_type[tensor.dtype].append(tensor)
    for tensors in by_type.values():
        flat = _flat(tensors)
        dist.broadcast(flat, 0)
        _unflat(flat, tensors)


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Average the running statistics of batch norms in training over all processes, in one message.

    Each process normalises by its own batch; evaluation then uses statistics of all batches, the same in all processes.
    """
    if not is_distributed():
        return
    statistics = [
        tensor
        for part in module.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training
        for tensor in (part.running_mean, part.running_var)
        if tensor is not None
    ]
    if statistics:
        flat = _flat(statistics)
        dist.all_reduce(flat)
        _unflat(flat / dist.get_world_size(), statistics)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all processes, in one message; nothing happens in a single process.

    Done by hand, because two alternating losses over four networks fit DistributedDataParallel's hooks badly. Every
    process divides its loss by its own batch size, so N processes at B equal one at N*B. A parameter that no process
    used keeps no gradient, since momentum would otherwise still move it.
    """
    if not is_distributed():
        return
    parameters = list(parameters)
    unused = [index for index, parameter in enumerate(parameters) if parameter.grad is None]
    # Parameters that this process's batch did not use must still take part, because other processes may have used them.
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    used = gradients[0].new_ones(len(parameters))
    for index in unused:
        used[index] = 0
    flat = _flat([*gradients, used])
    dist.all_reduce(flat)
    _unflat(flat / dist.get_world_size(), [*gradients, used])
    if unused:  # read only then, because reading waits for the device
        shares = used.tolist()
        for index in unused:
            parameters[index].grad = gradients[index] if shares[index] > 0 else None


#: Suffix of names in a state_dict that come from a module's `get_extra_state`: state that each process has of its own.
_OWN = "_extra_state"


class MovingAverage:
    """An exponential moving average of a generator's weights; its samples are steadier than the last weights'."""

    def __init__(self, generator: ImageGenerator, decay: float) -> None:
        self.source, self.decay, self.updates = generator, decay, 0
        self.generator = copy.deepcopy(generator).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the source; at first faster than `decay`, because the random start would linger.

        Running statistics of normalisation are averaged like the weights that they belong to; other buffers are copied.
        """
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages = (*self.generator.parameters(), *self.generator.buffers())
        values = (*self.source.parameters(), *self.source.buffers())
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    def state(self) -> dict[str, Any]:
        """Return everything that `load_state` needs."""
        return {"updates": self.updates, "generator": self.generator.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.updates = state["updates"]
        self.generator.load_state_dict(state["generator"])


def parameter_groups(
    parameters: Iterable[nn.Parameter], pretrained: Iterable[nn.Parameter], config: OptimizerConfig
) -> list[dict[str, Any]]:
    """Return parameter groups for an optimiser, with pretrained ones apart, each with the `factor` of its rate."""
    slow = {id(parameter) for parameter in pretrained}
    factor = 1.0 if config.encoder_rate is None else config.encoder_rate / config.rate
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if id(p) not in slow], "factor": 1.0},
        {"params": [p for p in parameters if id(p) in slow], "factor": factor},
    ]
    return [group for group in groups if group["params"]]


class TrainingStep:
    """A method and its two optimisers; `__call__(batches, rate)` updates them once."""

    def __init__(
        self,
        method: Method,
        optimizer: OptimizerConfig,
        precision: Callable[[], torch.autocast] | None = None,
        ema: float = 0.0,
    ) -> None:
        """precision: makes autocast contexts, or None for the weights' own.

        ema: decay per update of a running average of G_XY, which starts from `method`'s current weights; 0 keeps none.
        .999 suits some ten thousand updates; use a value nearer to 1 for more.
        """
        require(0 <= ema < 1, f"ema is {ema}; use 0 for none, or a decay below 1")
        broadcast_weights(method)  # before the average copies them
        self.method, self.precision = method, precision
        betas = (optimizer.beta1, optimizer.beta2)
        self.generator_parameters = method.generator_parameters()
        self.discriminator_parameters = method.discriminator_parameters()
        self._clip = optimizer.clip
        self.generator_optimizer = torch.optim.Adam(
            parameter_groups(method.generator_parameters(), method.encoder_parameters(), optimizer),
            optimizer.rate,
            betas,
        )
        self.discriminator_optimizer = (
            torch.optim.Adam(self.discriminator_parameters, optimizer.rate, betas)
            if self.discriminator_parameters
            else None
        )
        self._average = MovingAverage(method.generator, ema) if ema else None

    @property
    def generator(self) -> ImageGenerator:
        """G_XY as it should be used: its running average if there is one."""
        return self._average.generator if self._average is not None else self.method.generator

    def _autocast(self) -> torch.autocast:
        if self.precision is not None:
            return self.precision()
        return torch.autocast("cpu", enabled=False)

    def __call__(self, batches: Batch | Sequence[Batch], rate: float) -> dict[str, Tensor]:
        """Update both players once, in the method's order, at learning rate `rate`; return detached scalar losses.

        Several batches make one update, equal to that of their concatenation at a fraction of its memory (except for
        random draws, and for terms and layers that couple samples). Keys: the method's terms, total and, with
        discriminators, discriminator.
        """
        parts = [batches] if isinstance(batches, Batch) else list(batches)
        samples = sum(len(part.x) for part in parts)
        shares = [len(part.x) / samples for part in parts]
        for optimizer in filter(None, (self.generator_optimizer, self.discriminator_optimizer)):
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("factor", 1.0)
        sums: dict[str, Tensor] = defaultdict(lambda: parts[0].x.new_zeros((), dtype=torch.float32))
        if self.method.discriminators_first:
            made = [self._translate(part, keep=len(parts) == 1) for part in parts]
            self._update_discriminators(parts, shares, [fakes.detach() for fakes in made], sums)
            self._update_generators(parts, shares, made if len(parts) == 1 else [None] * len(parts), sums)
        else:
            detached = self._update_generators(parts, shares, [None] * len(parts), sums)
            self._update_discriminators(parts, shares, detached, sums)
        average_statistics(self.method)
        if self._average is not None:
            self._average.update()
        return dict(sums)

    def _translate(self, part: Batch, keep: bool) -> Fakes:
        """Return the generators' images of `part`. Their graph is kept only if `keep`, because many fill the memory."""
        with self._autocast(), torch.set_grad_enabled(keep):
            return self.method.translate(part)

    def _update_generators(
        self,
        parts: Sequence[Batch],
        shares: Sequence[float],
        made: Sequence[Fakes | None],
        sums: dict[str, Tensor],
    ) -> list[Fakes]:
        """Update the generators, add to `sums`, return detached fakes. made: fakes by part with graph, or None."""
        # Frozen, so that the generators' update computes no gradients of the discriminators.
        self._freeze_discriminators(True)
        self.generator_optimizer.zero_grad(set_to_none=True)
        detached = []
        for part, share, fakes in zip(parts, shares, made, strict=True):
            with self._autocast():
                losses, images = self.method.generator_losses(part, fakes)
            # A batch may hold nothing that the weights use, for example no u if only cycle and identity count.
            if losses["total"].requires_grad:
                (losses["total"] * share).backward()
            detached.append(images)
            for name, value in losses.items():
                sums[name] = sums[name] + value.detach() * share
        average_gradients(self.generator_parameters)
        if self._clip:
            nn.utils.clip_grad_norm_(self.generator_parameters, self._clip)
        self.generator_optimizer.step()
        return detached

    def _update_discriminators(
        self,
        parts: Sequence[Batch],
        shares: Sequence[float],
        detached: Sequence[Fakes],
        sums: dict[str, Tensor],
    ) -> None:
        """Update the discriminators, if there are any, and add to `sums`."""
        if self.discriminator_optimizer is None:
            return
        self._freeze_discriminators(False)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        for part, share, fakes in zip(parts, shares, detached, strict=True):
            with self._autocast():
                loss = self.method.discriminator_losses(fakes, part)
            (loss * share).backward()
            sums["discriminator"] = sums["discriminator"] + loss.detach() * share
        average_gradients(self.discriminator_parameters)
        self.discriminator_optimizer.step()

    def _freeze_discriminators(self, frozen: bool) -> None:
        for parameter in self.discriminator_parameters:
            parameter.requires_grad_(not frozen)

    def state(self) -> dict[str, object] | None:
        """Return everything that a resumed training needs, as tensors and plain values, in the first of several
        processes.

        All must call it, because each may keep state of its own (CycleGAN's pools); the others get None.
        """
        method, discriminator = self.method.state_dict(), self.discriminator_optimizer
        own = {name: method.pop(name) for name in list(method) if name.endswith(_OWN)}
        of_all = on_first_process(own) if own else [own]
        if of_all is None or not is_first_process():
            return None
        return {
            "method": method,
            "own": of_all,
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": discriminator.state_dict() if discriminator is not None else None,
            "average": self._average.state() if self._average is not None else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of a step with the same configuration.

        If there are more processes than before, some share one process's own state.
        """
        rank = dist.get_rank() if is_distributed() else 0
        self.method.load_state_dict({**state["method"], **state["own"][rank % len(state["own"])]})
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        if self.discriminator_optimizer is not None:
            self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        if self._average is not None:
            self._average.load_state(state["average"])
