"""Wires a training into a process: this one, or Ray Train workers fed by Ray Data."""

import logging
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import torch

from model.bundle import load_bundle
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.decode import ImageError
from pipelines.training.data import decode_row, load_size
from pipelines.training.loop import Training, TrainingError, TrainSettings
from pipelines.training.observer import Observer, progress_line
from pipelines.training.source import (
    TrainingSource,
    do_nothing_errors,
    first_pairs,
    local_rows,
    task_weights,
)

if TYPE_CHECKING:
    from ray.util.queue import Queue

    from pipelines.ray_session import Cluster

logger = logging.getLogger("train")

#: Trusted pairs per defect that fix the task balance.
BALANCE_PAIRS = 128
#: Rows decoded per task call, and handed to a worker at a time: small, because each holds two decoded images.
DECODE_ROWS = 32
#: How often a failed worker group is restarted from the last checkpoint before the job gives up.
MAX_FAILURES = 3
#: What travels from the decoding tasks to the workers: raw uint8 squares.
DECODED = pa.schema(
    [
        ("source", pa.binary()),
        ("target", pa.binary()),
        ("pairing", pa.string()),
        ("group", pa.string()),
        ("defect", pa.string()),
    ]
)


@dataclass(frozen=True)
class Plan:
    """A training, resolved: everything a worker needs. command_line goes into the model card."""

    settings: TrainSettings
    source: TrainingSource
    command_line: str
    workers: int


def balanced(plan: Plan) -> Plan:
    """The plan with the task balance measured, where it asks for one."""
    settings = plan.settings
    if not settings.method.balances_tasks:
        return plan
    pairs = first_pairs(plan.source, "train", BALANCE_PAIRS, settings.image_size)
    errors = do_nothing_errors(pairs)
    logger.info("do-nothing L1 per defect: %s", {name: round(error, 4) for name, error in errors.items()})
    return replace(plan, settings=replace(settings, task_weight=task_weights(plan.source.label_map, errors)))


def initial_weights(settings: TrainSettings) -> dict[str, torch.Tensor] | None:
    """The weights that --init-from names, or None. Raises ConfigurationError where the architecture differs."""
    if settings.init_from is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        with storage.as_configuration_error(settings.init_from, "--init-from", "read"):
            local = storage.fetch_folder(settings.init_from, Path(folder))
        bundle = load_bundle(local)
    if bundle.generator.config != settings.method.generator:
        raise ConfigurationError(
            f"--init-from {settings.init_from} has another architecture: {bundle.generator.config}, "
            f"not {settings.method.generator}; give the same --width, --blocks, --head and --geometry"
        )
    return dict(bundle.generator.state_dict())


def train_in_process(plan: Plan) -> None:
    """The whole loop here, without Ray: for a person debugging, and for a machine that has a GPU but no Ray."""
    settings, source = plan.settings, plan.source
    observer = Observer(settings, source, plan.command_line)
    training = Training(settings, source.label_map, initial_weights(settings))

    def rows(epoch: int) -> Iterator[dict[str, Any]]:
        return local_rows(source, epoch, settings.image_size, settings.cropped_groups, settings.uses)

    def report(record: dict[str, float]) -> None:
        logger.info(progress_line(record, settings, workers=1))

    training.run(rows, report, observer.grid)
    observer.finish(training)


def decode_table(table: pa.Table, settings: TrainSettings) -> pa.Table:
    """Shard rows to DECODED rows: the training split only, images as raw uint8 squares (see `unpack`).

    Raises TrainingError naming a row whose image cannot be decoded: preparation wrote it, so it should never happen.
    """
    rows = []
    for row in table.to_pylist():
        count = settings.uses(row) if row["split"] == "train" else 0
        if not count:
            continue
        try:
            decoded = decode_row(row, settings.image_size, settings.cropped_groups)
        except ImageError as error:
            raise TrainingError(
                f"{row['image_id']} ({row['defect']}): {error}; prepare the data again"
            ) from error
        images = {k: decoded[k].tobytes() if decoded[k] is not None else None for k in ("source", "target")}
        rows += [{**{name: row[name] for name in DECODED.names}, **images}] * count
    return pa.Table.from_pylist(rows, schema=DECODED)


def unpack(batch: pa.Table, settings: TrainSettings) -> Iterator[dict[str, Any]]:
    """DECODED rows with their images as uint8 (side, side, 3) arrays again."""
    for row in batch.to_pylist():
        side = load_size(settings.image_size, row["group"], settings.cropped_groups)
        for name in ("source", "target"):
            if row[name] is not None:
                row[name] = np.frombuffer(row[name], np.uint8).reshape(side, side, 3)
        yield row


def train_on_ray(plan: Plan) -> None:
    """Train with Ray Train: Ray Data decodes shards on CPU tasks and splits them over `plan.workers` workers.

    Raises TrainingError when a worker keeps failing.
    """
    from pipelines import ray_session  # first: it sets what Ray reads at import

    cluster = ray_session.start()
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.util.queue import Queue

    settings = plan.settings
    use_gpu = choose_gpu(settings.device, plan.workers, cluster)
    plan = replace(plan, settings=replace(settings, device="cuda" if use_gpu else "cpu"))
    paths = [storage.arrow_filesystem(uri)[1] for uri in plan.source.shards]
    filesystem = storage.arrow_filesystem(plan.source.shards[0])[0]
    rows = ray.data.read_parquet(
        paths,
        filesystem=filesystem,
        # Fits beside the workers of one CPU, and differs from decoding: equal shares would fuse into one task.
        num_cpus=0.2,
    ).map_batches(
        cast(Any, decode_table),  # pyarrow has no types, and so no function of its tables fits Ray's
        batch_size=DECODE_ROWS,
        batch_format="pyarrow",
        fn_kwargs={"settings": plan.settings},
        num_cpus=0.25,
    )
    runs, folder = storage.arrow_filesystem(storage.join(settings.output, "ray_train"))
    cpus = worker_cpus(cluster.node_cpus, plan.workers)
    if cluster.scales:
        cpus = max(1.0, cpus)  # workers that find no room now get nodes
    if use_gpu:
        cpus = min(1.0, cpus)  # the node with the GPU may have few
    # Ray Train's controller is an actor of its own: what it or a worker logs does not reach this terminal.
    lines = Queue()
    trainer = TorchTrainer(
        run_worker,
        train_loop_config={"plan": plan, "cpus": cpus, "lines": lines},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=plan.workers,
            use_gpu=use_gpu,
            # Workers that take every CPU would starve the tasks that feed them: Ray Data then stalls for ever.
            resources_per_worker={"CPU": cpus, "GPU": int(use_gpu)},
        ),
        run_config=RunConfig(
            name="run",
            storage_path=folder,
            storage_filesystem=runs,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
        datasets={"train": rows},
    )
    listener = threading.Thread(target=_show, args=(lines,), daemon=True)
    listener.start()
    try:
        trainer.fit()
    except Exception as error:  # Ray wraps whatever a worker raised in an exception class of its own
        raise TrainingError(
            f"training failed: {_root(error)}; what it had reached is in {settings.checkpoint}: go on with --resume"
        ) from error
    finally:
        lines.put(None)
        listener.join()
        lines.shutdown()


def _show(lines: "Queue") -> None:
    """Log what rank 0 sends until it sends None."""
    while (line := lines.get()) is not None:
        logger.info(line)


def choose_gpu(device: str, workers: int, cluster: "Cluster") -> bool:
    """Whether the workers get a GPU each.

    Raises ConfigurationError where GPUs are asked for that the cluster has not and no autoscaler may add.
    """
    enough = cluster.gpus >= workers
    if device == "cuda" and not enough:
        lack = (
            f"--workers {workers} with --device cuda needs {workers} GPUs; this cluster has {cluster.gpus:g}"
        )
        if not cluster.scales:
            raise ConfigurationError(lack)
        logger.info("%s now; waiting for the autoscaler's nodes", lack)
    elif device == "auto" and not enough and cluster.scales:
        logger.warning(
            "the cluster has %g GPUs now for --workers %d: using CPUs; --device cuda asks the autoscaler for GPUs",
            cluster.gpus,
            workers,
        )
    return device == "cuda" or (device == "auto" and enough)


def worker_cpus(node_cpus: Sequence[float], workers: int) -> float:
    """The most CPUs for each worker such that all fit on nodes with so many and Ray Data keeps one, or half of one.

    Whole ones where there are enough; above 0 always.
    """
    nodes = sorted(node_cpus) or [1.0]
    nodes[-1] = max(nodes[-1] - 1, nodes[-1] / 2)
    whole = [float(count) for count in range(int(max(nodes)), 0, -1)]
    parts = [1000 // count / 1000 for count in range(2, 2 * workers + 1)]
    shares = whole + parts
    return next((share for share in shares if sum(node // share for node in nodes) >= workers), shares[-1])


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def run_worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs."""
    from ray import train

    plan: Plan = config["plan"]
    settings, context = plan.settings, train.get_context()
    rank = context.get_world_rank()
    logging.getLogger("train").setLevel(logging.INFO)
    torch.set_num_threads(max(1, int(config["cpus"])))
    observer = Observer(settings, plan.source, plan.command_line, rank)
    training = Training(settings, plan.source.label_map, initial_weights(settings), rank)
    shard = train.get_dataset_shard("train")

    def rows(epoch: int) -> Iterator[dict[str, Any]]:
        for batch in shard.iter_batches(batch_size=DECODE_ROWS, batch_format="pyarrow"):
            yield from unpack(batch, settings)

    def report(record: dict[str, float]) -> None:
        if rank == 0:
            config["lines"].put(progress_line(record, settings, plan.workers))
        train.report(record)

    training.run(rows, report, observer.grid)
    observer.finish(training)
