"""Runs the steps on Ray Data: reading and decoding in tasks, the networks in actors."""

from collections.abc import Iterator

import pyarrow as pa
import ray.data

from pipelines.cluster import session
from pipelines.cluster.placement import Placement, choose_placement, configure, tables
from pipelines.evaluation.config import Plan
from pipelines.evaluation.measure import Measurer
from pipelines.evaluation.rows import BATCH, decode_rows, read_rows

#: Bytes per block: a few tables of decoded rows. Small, so that a small test split keeps all actors busy.
_BLOCK = 8 << 20


def place_actors(plan: Plan) -> Placement:
    """Start or join Ray, and decide where the networks run. Raises ConfigurationError if there is no GPU."""
    inputs = (*plan.config.data, *plan.config.bundles, plan.config.fid_weights)
    cluster = session.start(*filter(None, inputs))
    rows = plan.survey.sampled_rows(floor=plan.weights is not None)
    actors = -(-rows // BATCH)
    if plan.config.workers is not None:
        actors = min(actors, plan.config.workers)
    return choose_placement(plan.config.device, cluster, None, None, actors)


def measure_on_ray(plan: Plan, placement: Placement) -> Iterator[pa.Table]:
    """Return tables of MEASURES, in any order."""
    configure(_BLOCK, ["StorageReadError"])
    sample = plan.survey.sample(floor=plan.weights is not None)
    settings = plan.measurer_settings(placement.device)
    if placement.device == "cpu":
        settings["threads"] = 1  # actors share the cores
    units = ray.data.from_arrow([unit.table() for unit in plan.units])
    sampled = placement.read(units, read_rows, {"sample": sample})
    decoded = placement.tasks(sampled, decode_rows, {"inputs": plan.inputs})
    return tables(placement.actors(decoded, Measurer, settings, BATCH))
