"""A preparation on Ray Data: plan, units in tasks or actors, and the end that adds everything up.

    sources -> plan (driver) -> units (tasks; with --saliency actors) -> a record per unit -> totals, report,
    dataset.json

A unit whose record exists is done. So a run that was killed goes on where it was, and nothing is prepared twice.
Nothing that grows with the photos stays on the driver but eight bytes per image, while it plans and at the end
(`known`).
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.errors import RunError
from pipelines import storage
from pipelines.ahead import map_ahead
from pipelines.dataset.failures import NAMELESS, Failures
from pipelines.dataset.known import KnownIds, hash_ids
from pipelines.dataset.plan import Plan, planned_marks
from pipelines.dataset.totals import UnitRecord
from pipelines.dataset.unit import HELD_BACK, UNITS, UnitWorker, Work, prepare_units
from pipelines.progress import Progress
from pipelines.saliency import CLASSICAL

if TYPE_CHECKING:  # importing Ray takes seconds
    from pipelines.placement import Placement
    from pipelines.ray_session import Cluster

logger = logging.getLogger(__name__)

#: Beyond this many units, several share a Ray block: a block costs some 60 ms.
MAX_BLOCKS = 2000
#: Share of a GPU that an actor takes where none is asked for: most of its time it decodes, composes and encodes.
GPU_SHARE = 0.25


def place_actors(
    saliency: str, device: str, gpus_per_actor: float | None, cluster: "Cluster", units: int
) -> "Placement":
    """Decide where the saliency network runs: see `pipelines.placement.place`.

    device: 'auto' takes GPUs where there are any and the network has weights. Raises ConfigurationError for GPUs that
    the cluster does not have and no autoscaler can add.
    """
    from pipelines.placement import place

    if saliency == CLASSICAL and device == "auto" and gpus_per_actor is None:
        device = "cpu"
    most = min(units, max(1, int(cluster.cpus)))  # each has a CPU's work besides
    flag = "--saliency-device"
    placed = place(device, cluster, None, gpus_per_actor, most, flag, GPU_SHARE)
    return replace(placed, cpus_per_actor=1.0, unbounded=cluster.scales)


def run_units(work: Work, actors: "Placement | None") -> None:
    """Prepare the units of the plan that are not done yet, on the Ray that is connected.

    actors: None runs tasks, without saliency. Raises what workers raise.
    """
    left = units_left(work.plan, work.done_folder)
    if len(left) < work.plan.units:
        logger.info("%d of %d units are done already", work.plan.units - len(left), work.plan.units)
    with Progress("prepare", work.plan.planned, sys.stderr) as progress:
        progress.resume(work.plan.planned - sum(len(work.plan.span(unit)) for unit in left))
        for summaries in _summaries(left, work, actors) if left else ():
            for summary in summaries.to_pylist():
                progress.update(summary["entries"], summary["unreadable"])


def units_left(plan: Plan, done_folder: str) -> list[int]:
    """The units that have no record."""
    done = {int(PurePosixPath(uri).stem) for uri in storage.list_files(done_folder, ".parquet")}
    return [unit for unit in range(plan.units) if unit not in done]


@dataclass(frozen=True)
class Collected:
    """What a generation came to. record: the sum over its units. tried: marks (`listing.marks_of`) of all entries.

    known: of those that were prepared. failures: the others.
    """

    record: UnitRecord
    tried: KnownIds
    known: KnownIds
    failures: Failures


def collect(work: Work) -> Collected:
    """Add up all units' records.

    Raises RunError where entries were lost or doubled, or the shards are not those that the records name.
    """
    total, failures, pairs, sides = UnitRecord(), Failures(), KnownIds(), KnownIds()
    for record in _records(work):
        failures.add(record.failed)
        pairs.merge(hash_ids([mark for mark, _ in record.halved]))
        sides.merge(hash_ids([mark for _, mark in record.halved]))
        total.merge(record)
    plan = work.plan
    counts = total.totals.counts
    for outcome, count in (
        ("listed", plan.listed),
        ("duplicates", plan.duplicates),
        ("already_there", plan.known),
        ("prepared", 0),  # so that the key exists
        ("unreadable", 0),
    ):
        counts[f"entries/{outcome}"] += count
    if plan.nameless:
        total.totals.add_unreadable("", NAMELESS, "image_id is empty", plan.nameless)
    check_conservation(total, work)
    total.shards = []  # they are as many as the data are large
    tried = KnownIds()
    for marks in planned_marks(work.plan_folder, plan):
        tried.add(marks)
    known = tried.without(failures.hashes).without(pairs.hashes)
    known.merge(sides.hashes)
    return Collected(total, tried, known, failures)


def check_conservation(total: UnitRecord, work: Work) -> None:
    """Raise RunError unless every listed entry came to something, and the shards are exactly what units wrote."""
    counts = total.totals.counts
    outcomes = ("prepared", "unreadable", "duplicates", "already_there")
    accounted = sum(counts[f"entries/{outcome}"] for outcome in outcomes)
    # Those of earlier generations were checked when they were made. Training reads whatever lies there.
    earlier = tuple(f"part-{generation:03}-" for generation in range(work.plan.generation))
    names = [PurePosixPath(uri).name for uri in storage.list_files(work.shards, ".parquet")]
    there = {name for name in names if not name.startswith(earlier)}
    if accounted != counts["entries/listed"] or there != set(total.shards):
        raise RunError(
            f"rows were lost or doubled: {counts['entries/listed']} entries listed, {accounted} accounted for; "
            f"{len(total.shards)} shards written, {len(there)} in {work.shards}; do not use this output, "
            "run again with --overwrite and report this"
        )


def remove_done(work: Work) -> None:
    """Remove the units' records: their sum is kept. And what killed workers left half written."""
    storage.remove(work.done_folder)
    for folder in (work.shards, *(work.held_back(name) for name in HELD_BACK if work.test_catalog)):
        storage.remove_unfinished(folder)


def _records(work: Work) -> Iterator[UnitRecord]:
    """The records of all units, a few in memory at a time."""
    for _, data in map_ahead(lambda unit: storage.read_bytes(work.done(unit)), range(work.plan.units)):
        yield UnitRecord.from_bytes(data)


def _summaries(units: Sequence[int], work: Work, actors: "Placement | None") -> Iterator[pa.Table]:
    import ray.data

    from pipelines.placement import configure, on_tasks, tables

    configure(16 << 20, ["StorageReadError", "UnitStorageError", "DecoderStartError"])
    chunks: list[NDArray[np.int64]] = np.array_split(np.array(units, np.int64), min(len(units), MAX_BLOCKS))
    source = ray.data.from_arrow([pa.table({"unit": chunk}, UNITS) for chunk in chunks])
    if actors is None:
        return tables(on_tasks(source, prepare_units, {"work": work}, cpus=1))
    return tables(actors.actors(source, UnitWorker, {"work": work}, batch_size=1, whole_blocks=True))
