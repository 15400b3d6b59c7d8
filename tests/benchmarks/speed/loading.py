"""Does a training wait for its pictures? Its steps with their waits for the next batch, against those without waits.

jobs/train.py trains the pretrained U-Net on drawn photos whose defects are made anew, in this process and on all cores
but one, which is left to decoding. The first step, for which nothing can be ready, is not counted, nor the last, after
which the bundle is written. What decoding takes from the step on a shared core is in both figures.
"""

import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from jobs import train
from pipelines.preparation.settings import PreparationConfig
from pipelines.training import loop
from pipelines.training.feed.batches import Batch
from tests.benchmarks.speed.ratio import Ratio
from tests.benchmarks.study import drawn
from tests.benchmarks.study.datasets import TABLE, prepare_here

#: Long side of the photos, pixels.
SIDE = 533


def ratios(small: bool) -> list[Ratio]:
    """Return the time of all steps in relation to the time in which they did not wait."""
    photos, steps, side = (12, 4, 64) if small else (320, 100, 128)
    torch.set_num_threads(max(1, multiprocessing.cpu_count() - 1))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = folder / "photos.parquet"
        pq.write_table(pa.Table.from_pylist(list(drawn.photos(photos, SIDE)), TABLE), table)
        prepare_here(PreparationConfig(str(folder / "data"), photos=[str(table)]))
        flags = ["--data", str(folder / "data"), "--output", str(folder / "run"), "--workers", "0"]
        flags += ["--architecture", "pretrained_unet", "--encoder-weights", "none", "--image-size", str(side)]
        flags += ["--directions", "forward", "--adversarial", "0", "--cycle", "0", "--identity", "0"]
        flags += ["--steps", str(steps), "--batch-size", "4", "--validate-every", "0", "--shuffle-rows", "8"]
        began, waits = _train(flags)
    total, waited = began[-1] - began[1], sum(waits[1:-1])
    figures = {"step_ms": 1000 * total / (steps - 2), "waited_ms": 1000 * waited / (steps - 2), "batch": 4}
    what, against = (
        f"training step of the pretrained U-Net at {side} pixels, pictures read",
        "the same steps without their waits",
    )
    return [Ratio(what, against, total / (total - waited), 1.05, at_most=True, figures=figures)]


def _train(flags: list[str]) -> tuple[list[float], list[float]]:
    """Train; return when each batch was asked for, and how many seconds it took to come."""
    began: list[float] = []
    waits: list[float] = []
    batches = loop.batches

    def watched(*arguments: Any) -> Iterator[Batch]:
        source = batches(*arguments)
        while True:
            began.append(time.perf_counter())
            batch = next(source)
            waits.append(time.perf_counter() - began[-1])
            yield batch

    loop.batches = watched  # type: ignore[assignment]
    with contextlib.redirect_stdout(sys.stderr):  # its configuration
        train.main(flags)
    return began, waits
