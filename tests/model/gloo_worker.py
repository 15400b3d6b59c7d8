"""The code of each process in the data-parallel test; importable without pytest, as spawned processes need."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.baselines.cyclegan import CycleGAN, CycleGANObjective
from model.detector.network import Detector, DetectorConfig
from model.detector.training_step import DetectionBatch, DetectorStep
from model.method import Batch
from model.semi_paired import SemiPaired, SemiPairedObjective
from model.training_step import OptimizerConfig, TrainingStep, average_gradients
from tests.model.builders import SMALL_CRITIC, images, part, small_batch, small_config

WORKERS, SAMPLES, RATE = 2, 4, 1e-3
#: The workers' halves differ in the terms they train: the first has no u, the second has one sample without p.
MASKS = {"equal": ((1, 1, 1, 1), (1, 1, 1, 1)), "different": ((1, 1, 0, 1), (0, 0, 1, 1))}
#: Without discriminators and reconstruction, the first half of "different" uses no parameter at all.
OBJECTIVES = {
    "equal": SemiPairedObjective(),
    "different": SemiPairedObjective(),
    "idle worker": SemiPairedObjective(adversarial=0, reconstruction=0),
}


def one_step(case: str, start: int, stop: int) -> dict[str, Tensor]:
    """Return gradients and parameters by name after one step on samples start..stop-1. Initial weights are fixed."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    method = SemiPaired(small_config(), SMALL_CRITIC, OBJECTIVES[case])
    batch: Batch = part(small_batch(*MASKS.get(case, MASKS["different"])), start, stop)
    TrainingStep(method, OptimizerConfig(RATE))(batch, RATE)
    named = dict(method.named_parameters())
    gradients = {f"gradient {name}": p.grad for name, p in named.items() if p.grad is not None}
    return {**gradients, **{name: p.detach() for name, p in named.items()}}


def averaged(rank: int) -> list[Tensor | None]:
    """Average the gradients of four parameters: each rank has used two of the first three, and none the last."""
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (1,), (5,))]
    for index, parameter in enumerate(parameters[:3]):
        if index != rank:
            parameter.grad = torch.full_like(parameter, 10.0 * rank + index)
    average_gradients(parameters)
    return [p.grad for p in parameters]


def moved_by_an_idle_update(rank: int) -> float:
    """Return the largest change of a weight in an update whose samples train nothing, after one that left momentum."""
    torch.manual_seed(0)
    objective = SemiPairedObjective(adversarial=0, reconstruction=0)
    step = TrainingStep(SemiPaired(small_config(), SMALL_CRITIC, objective), OptimizerConfig(RATE))
    step(part(small_batch((1, 1), (1, 1)), rank, rank + 1), RATE)
    before = [p.detach().clone() for p in step.generator_parameters]
    step(part(small_batch((1, 1), (0, 0)), rank, rank + 1), RATE)
    return max((p - q).abs().max().item() for p, q in zip(step.generator_parameters, before, strict=True))


def started(rank: int) -> dict[str, dict[str, Tensor]]:
    """Return weights, initialised by each rank with its own random numbers, before and after a step is built."""
    torch.manual_seed(rank)
    method = SemiPaired(small_config(), SMALL_CRITIC, SemiPairedObjective())
    detector = Detector(DetectorConfig(("a", "b")))
    for buffer in detector.buffers():
        if buffer.is_floating_point():
            buffer.add_(rank)
    made = {name: value.clone() for name, value in {**method.state_dict(), **detector.state_dict()}.items()}
    step = TrainingStep(method, OptimizerConfig(), ema=0.9)
    detector_step = DetectorStep(detector, OptimizerConfig(), 0.01, torch.float32)
    training = {**step.method.state_dict(), **detector_step.detector.state_dict()}
    averages = {f"average {name}": value for name, value in step.generator.state_dict().items()}
    return {"made": made, "training": {**training, **averages}}


def states(rank: int) -> list[bool]:
    """Return whether a step of a method without pools, and one of a detector, return a state in this process."""
    step = TrainingStep(SemiPaired(small_config(), SMALL_CRITIC, SemiPairedObjective()), OptimizerConfig())
    detector = DetectorStep(Detector(DetectorConfig(("a",))), OptimizerConfig(), 0.01, torch.float32)
    return [step.state() is not None, detector.state() is not None]


def labelled(start: int, stop: int) -> DetectionBatch:
    """Return samples start..stop-1 of SAMPLES.

    The first label is known for the first and the last two samples, the second label for one, the third for none.
    """
    present = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    known = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    return DetectionBatch(images(SAMPLES, 32)[start:stop], present[start:stop], known[start:stop])


def detected(batches: Sequence[DetectionBatch]) -> dict[str, Any]:
    """Return losses and gradients of one update of a detector with frozen norms, which do not couple samples."""
    torch.manual_seed(0)
    detector = Detector(DetectorConfig(("a", "b", "c")))
    losses = DetectorStep(detector, OptimizerConfig(), 0.01, torch.float32)(batches, RATE)
    return {"losses": losses, "gradients": [p.grad for p in detector.parameters()]}


def running_statistics(rank: int) -> dict[str, list[Tensor]]:
    """Return a detector's running statistics after one update, of this rank's half alone and of both ranks together."""
    statistics = {}
    for name, process_group in (("alone", False), ("together", True)):
        torch.manual_seed(0)
        detector = Detector(DetectorConfig(("a",), freeze_norms=False))
        half = DetectionBatch(
            images(SAMPLES, 32)[2 * rank : 2 * rank + 2], torch.ones(2, 1), torch.ones(2, 1)
        )
        if process_group:
            DetectorStep(detector, OptimizerConfig(), 0.01, torch.float32)([half], RATE)
        else:
            detector.train()(half.x)
        statistics[name] = [value for key, value in detector.state_dict().items() if "running" in key]
    return statistics


def pools_after_a_resume(rank: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the images in a CycleGAN's first pool when its state is taken, and after another one resumes from it."""
    torch.manual_seed(0)
    batch = part(small_batch(*MASKS["equal"]), rank, rank + 1)
    taken, resumed = (
        TrainingStep(CycleGAN(small_config(), SMALL_CRITIC, CycleGANObjective()), OptimizerConfig(RATE))
        for _ in range(2)
    )
    taken(batch, RATE)
    states = [taken.state()]
    dist.broadcast_object_list(states)  # all read the first worker's checkpoint
    resumed.load_state(states[0])
    return tuple(step.method.pool_y.images for step in (taken, resumed))


def run(rank: int, folder: str) -> None:
    """Run one process of WORKERS and save its results in FOLDER/RANK.pt."""
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
        results = {
            "steps": steps,
            "averaged": averaged(rank),
            "pools": pools_after_a_resume(rank),
            "idle": moved_by_an_idle_update(rank),
            "started": started(rank),
            "states": states(rank),
            "detected": detected([labelled(rank * share, (rank + 1) * share)]),
            "statistics": running_statistics(rank),
        }
        torch.save(results, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
