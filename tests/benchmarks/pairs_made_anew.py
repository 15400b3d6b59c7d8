"""The cost of making defects again for every sample, compared with fixed pairs and with a training step.

    python jobs/prepare_dataset.py --photos photos.parquet --output made
    python jobs/prepare_dataset.py --photos photos.parquet --output fixed --draws 1
    python -m tests.benchmarks.pairs_made_anew --made made --fixed fixed

Prints milliseconds of one core per sample and defect, from the shard's bytes to pixels, and those of a training step of
`pretrained_unet` per sample. Also prints samples per second of one core, which shows how many cores a CPU's or a GPU's
steps need for their pixels. Process time is used, so that other work on the machine hardly counts.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch

from model.method import Batch
from model.recipes import build_method, method_config
from model.training_step import OptimizerConfig, TrainingStep
from pipelines.shards.index import Index, build_index
from pipelines.shards.reading import Decoding
from pipelines.shards.source import TrainingSource, open_source
from pipelines.training.feed.batches import orders_of
from pipelines.training.plan import find_making

SIDES = (192, 256)
BATCH = 6


def decoding_seconds(
    source: TrainingSource, index: Index, decoding: Decoding, defect: int, rows: int
) -> float:
    """Return seconds of one core per row of a defect."""
    numbers = np.flatnonzero(index.having(defect, 0))[: 2 * rows]
    for order in orders_of(index, numbers[rows:]):  # warm up: backgrounds, marks and fonts are read once
        list(decoding(order))
    start = time.process_time()
    count = sum(1 for order in orders_of(index, numbers[:rows]) for _ in decoding(order))
    return (time.process_time() - start) / count


def step_seconds(side: int) -> float:
    """Return seconds of one core per sample of a step, the best of three."""
    generator = {"architecture": "pretrained_unet", "geometry": "affine", "geometric_groups": (1,)}
    losses = {"adversarial": 0.0, "cycle": 0.0, "identity": 0.0, "directions": "forward"}
    config = method_config(
        "proposed", n_groups=2, n_types=3, image_size=side, generator=generator, objective=losses
    )
    method = build_method(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step = TrainingStep(method, OptimizerConfig())
    x, y = (torch.rand(BATCH, 3, side, side) * 2 - 1 for _ in range(2))
    types = torch.arange(BATCH) % 3
    yes = torch.ones(BATCH)
    batch = Batch(x, y, (types == 2).long(), types, yes, 1 - yes, n_unpaired=0)
    times = []
    for _ in range(4):
        start = time.process_time()
        step([batch], 1e-4)
        times.append(time.process_time() - start)
    return min(times[1:]) / BATCH


def lines(made: str, fixed: str, rows: int) -> Iterator[str]:
    """Yield the table's lines, in Markdown."""
    yield "| side | sample | ms | samples/s of a core |"
    yield "| --- | --- | --- | --- |"
    for side in SIDES:
        for kind, uri in (("fixed pairs", fixed), ("made anew", made)):
            source = open_source([uri])
            index = build_index(source.shards, source.label_map)
            decoding = Decoding(side, fit="letterbox", making=find_making(source, index, 0))
            for name, defect in source.label_map.defects.items():
                seconds = decoding_seconds(source, index, decoding, defect.id, rows)
                yield f"| {side} | {name}, {kind} | {1000 * seconds:.1f} | {1 / seconds:.0f} |"
        seconds = step_seconds(side)
        yield f"| {side} | a step of the network | {1000 * seconds:.0f} | {1 / seconds:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--made", required=True, help="shards of jobs/prepare_dataset.py")
    parser.add_argument("--fixed", required=True, help="the same, of --draws 1")
    parser.add_argument("--rows", type=int, default=60, help="samples that are timed of each kind")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for line in lines(arguments.made, arguments.fixed, arguments.rows):
        print(line, flush=True)


if __name__ == "__main__":
    main()
