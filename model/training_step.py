"""One step of training in plain torch: generators, then discriminators, on any number of processes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.config import require
from model.objective import (
    Batch,
    Networks,
    ObjectiveConfig,
    discriminator_losses,
    generator_losses,
    translate,
)


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam, as CycleGAN sets it."""

    rate: float = 2e-4
    beta1: float = 0.5  # 0.9 where there is no adversarial term to destabilise
    beta2: float = 0.999

    def __post_init__(self) -> None:
        require(self.rate > 0, f"learning rate is {self.rate}; use a positive one")
        require(0 <= self.beta1 < 1 and 0 <= self.beta2 < 1, "Adam's betas must lie in [0, 1)")


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all processes, in one message; nothing happens in a single process.

    Done by hand because two alternating losses over four networks fit DistributedDataParallel's hooks badly. Every
    process divides its loss by its own batch size, so N processes at B equal one at N*B.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    # A parameter that this process's batch did not use must still take part: the others may have used it.
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))


class TrainingStep:
    """Networks, their two optimisers, and `__call__(batch, rate)` that updates them once."""

    def __init__(
        self,
        networks: Networks,
        objective: ObjectiveConfig,
        optimizer: OptimizerConfig,
        task_weight: Tensor | None = None,
        precision: Callable[[], torch.autocast] | None = None,
    ) -> None:
        """task_weight: (n_types,) factors of the reconstruction term; precision: makes autocast contexts, or None."""
        self.networks, self.objective = networks, objective
        self.task_weight, self.precision = task_weight, precision
        betas = (optimizer.beta1, optimizer.beta2)
        self.generator_parameters = [p for g in networks.generators() for p in g.parameters()]
        self.discriminator_parameters = [p for d in networks.discriminators() for p in d.parameters()]
        self.generator_optimizer = torch.optim.Adam(self.generator_parameters, optimizer.rate, betas)
        self.discriminator_optimizer = (
            torch.optim.Adam(self.discriminator_parameters, optimizer.rate, betas)
            if self.discriminator_parameters
            else None
        )

    def _autocast(self) -> torch.autocast:
        if self.precision is not None:
            return self.precision()
        return torch.autocast("cpu", enabled=False)

    def __call__(self, batch: Batch, rate: float) -> dict[str, Tensor]:
        """Update the generators, then the discriminators, at learning rate `rate`; returns detached scalar losses.

        Keys: adversarial, reconstruction, cycle, identity, total and, with discriminators, discriminator.
        """
        for optimizer in filter(None, (self.generator_optimizer, self.discriminator_optimizer)):
            for group in optimizer.param_groups:
                group["lr"] = rate
        # Frozen, so that the generators' step spends nothing on the discriminators' gradients.
        for parameter in self.discriminator_parameters:
            parameter.requires_grad_(False)
        with self._autocast():
            fakes = translate(self.networks, batch)
            losses = generator_losses(self.networks, fakes, batch, self.objective, self.task_weight)
        self.generator_optimizer.zero_grad(set_to_none=True)
        # A batch may hold nothing that the weights ask for, say no u where only cycle and identity count.
        if losses["total"].requires_grad:
            losses["total"].backward()
        average_gradients(self.generator_parameters)
        self.generator_optimizer.step()
        if self.discriminator_optimizer is not None:
            for parameter in self.discriminator_parameters:
                parameter.requires_grad_(True)
            with self._autocast():
                losses["discriminator"] = discriminator_losses(self.networks, fakes, batch)
            self.discriminator_optimizer.zero_grad(set_to_none=True)
            losses["discriminator"].backward()
            average_gradients(self.discriminator_parameters)
            self.discriminator_optimizer.step()
        return {name: value.detach() for name, value in losses.items()}

    def state(self) -> dict[str, object]:
        """Everything a resumed training needs, as tensors and plain values."""
        discriminator = self.discriminator_optimizer
        return {
            "networks": self.networks.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": discriminator.state_dict() if discriminator is not None else None,
        }

    def load_state(self, state: dict[str, object]) -> None:
        """Continue from `state()`."""
        self.networks.load_state_dict(state["networks"])  # type: ignore[arg-type]
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])  # type: ignore[arg-type]
        if self.discriminator_optimizer is not None:
            self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])  # type: ignore[arg-type]
