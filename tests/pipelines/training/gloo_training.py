"""Trains in several processes without Ray, as a reference for trainings on Ray. Importable without pytest."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from jobs import train
from pipelines.training.feed.batches import load_here
from pipelines.training.generator.loop import Training
from tests.pipelines.training.builders import Recorder


def run(rank: int, workers: int, folder: str, argv: Sequence[str]) -> None:
    """Run one of `workers` processes; rank 0 writes its records to FOLDER/records.pt."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=workers,
        timeout=timedelta(seconds=120),
    )
    try:
        _, plan = train.resolve([*argv, "--output", f"{folder}/run-{rank}", "--device", "cpu"])
        training = Training(plan.settings, plan.source.label_map, None, rank, workers)
        follower = Recorder()
        training.run(plan.index, partial(load_here, decode=plan.settings.decoding), follower)
        if rank == 0:
            torch.save(follower.records, Path(folder) / "records.pt")
    finally:
        dist.destroy_process_group()
