"""Run the units of a preparation on Ray Data: in tasks, or in actors if a saliency network makes the masks."""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import ray.data
from numpy.typing import NDArray

from pipelines.cluster.placement import Placement, choose_placement, configure, on_tasks, tables
from pipelines.cluster.progress import Progress
from pipelines.cluster.session import Cluster
from pipelines.preparation.unit.unit import UNITS, UnitWorker, Work, prepare_units
from pipelines.saliency import CLASSICAL

logger = logging.getLogger(__name__)

#: Beyond this many units, several share a Ray block: a block costs some 60 ms.
MAX_BLOCKS = 2000
#: Share of a GPU per actor by default: an actor mostly decodes, composes and encodes.
GPU_SHARE = 0.25


def place_actors(
    saliency: str, device: str, gpus_per_actor: float | None, cluster: Cluster, units: int
) -> Placement:
    """Decide where the saliency network runs: see `pipelines.cluster.placement.choose_placement`.

    device: 'auto' takes GPUs if there are any and the network has weights. Raises ConfigurationError for GPUs that the
    cluster does not have and no autoscaler can add.
    """
    if saliency == CLASSICAL and device == "auto" and gpus_per_actor is None:
        device = "cpu"
    # Each has a CPU's work besides. An autoscaler adds CPUs, too.
    most = units if cluster.scaling else min(units, max(1, int(cluster.cpus)))
    flag = "--device"
    placed = choose_placement(device, cluster, None, gpus_per_actor, most, flag, GPU_SHARE)
    return replace(placed, cpus_per_actor=1.0)


def run_units(work: Work, actors: Placement | None) -> None:
    """Prepare the units of the plan that are not done yet, on the connected Ray cluster.

    actors: None runs tasks, without saliency. Raises the workers' errors.
    """
    left = work.units_left()
    if len(left) < work.plan.units:
        logger.info("%d of %d units are done already", work.plan.units - len(left), work.plan.units)
    with Progress("prepare", work.plan.planned, sys.stderr) as progress:
        progress.resume(work.plan.planned - sum(len(work.plan.span(unit)) for unit in left))
        for summaries in _summaries(left, work, actors) if left else ():
            for summary in summaries.to_pylist():
                progress.update(summary["entries"], summary["unreadable"])


def _summaries(units: Sequence[int], work: Work, actors: Placement | None) -> Iterator[pa.Table]:
    configure(16 << 20, ["StorageReadError", "UnitStorageError", "DecoderStartError"])
    chunks: list[NDArray[np.int64]] = np.array_split(np.array(units, np.int64), min(len(units), MAX_BLOCKS))
    source = ray.data.from_arrow([pa.table({"unit": chunk}, UNITS) for chunk in chunks])
    if actors is None:
        return tables(on_tasks(source, prepare_units, {"work": work}, cpus=1))
    return tables(actors.actors(source, UnitWorker, {"work": work}, batch_size=1, whole_blocks=True))
