"""What each process of the data-parallel test runs; importable without pytest, as spawned processes need."""

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from model.cyclegan import CycleGAN, CycleGANObjective
from model.method import Batch
from model.semi_paired import SemiPaired, SemiPairedObjective
from model.training_step import OptimizerConfig, TrainingStep, average_gradients
from tests.model.builders import SMALL_CRITIC, part, small_batch, small_config

WORKERS, SAMPLES, RATE = 2, 4, 1e-3
#: The workers' halves differ in what they train: the first has no cycle and identity, the second one untrusted pair.
MASKS = {"equal": ((1, 1, 1, 1), (1, 1, 1, 1)), "different": ((1, 1, 0, 1), (0, 0, 1, 1))}
#: Without discriminators and reconstruction, the first half of "different" uses no parameter at all.
OBJECTIVES = {
    "equal": SemiPairedObjective(),
    "different": SemiPairedObjective(),
    "idle worker": SemiPairedObjective(adversarial=0, reconstruction=0),
}


def one_step(case: str, start: int, stop: int) -> dict[str, Tensor]:
    """Gradients and parameters, by name, after one step on samples start..stop-1, from the same initial weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    method = SemiPaired(small_config(), SMALL_CRITIC, OBJECTIVES[case])
    batch: Batch = part(small_batch(*MASKS.get(case, MASKS["different"])), start, stop)
    TrainingStep(method, OptimizerConfig(RATE))(batch, RATE)
    named = dict(method.named_parameters())
    gradients = {f"gradient {name}": p.grad for name, p in named.items() if p.grad is not None}
    return {**gradients, **{name: p.detach() for name, p in named.items()}}


def averaged(rank: int) -> list[Tensor]:
    """average_gradients of three parameters of which each rank has used two."""
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (1,))]
    for index, parameter in enumerate(parameters):
        if index != rank:
            parameter.grad = torch.full_like(parameter, 10.0 * rank + index)
    average_gradients(parameters)
    return [p.grad for p in parameters if p.grad is not None]


def pools_after_a_resume(rank: int) -> tuple[list[Tensor], list[Tensor]]:
    """The images in a CycleGAN's first pool where its state was taken, and after another one has continued from it."""
    torch.manual_seed(0)
    batch = part(small_batch(*MASKS["equal"]), rank, rank + 1)
    taken, resumed = (
        TrainingStep(CycleGAN(small_config(), SMALL_CRITIC, CycleGANObjective()), OptimizerConfig(RATE))
        for _ in range(2)
    )
    taken(batch, RATE)
    states = [taken.state()]
    dist.broadcast_object_list(states)  # as all read the first worker's checkpoint
    resumed.load_state(states[0])
    return tuple(step.method.pool_y.images for step in (taken, resumed))


def run(rank: int, folder: str) -> None:
    """One process of WORKERS; leaves its results in FOLDER/RANK.pt."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=WORKERS,
        timeout=timedelta(seconds=60),
    )
    try:
        share = SAMPLES // WORKERS
        steps = {case: one_step(case, rank * share, (rank + 1) * share) for case in OBJECTIVES}
        results = {"steps": steps, "averaged": averaged(rank), "pools": pools_after_a_resume(rank)}
        torch.save(results, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
