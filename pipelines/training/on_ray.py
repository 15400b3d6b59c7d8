"""Runs a training on Ray Train: each worker decodes through Ray Data, and all average their gradients."""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch

from pipelines import storage
from pipelines.cluster.autoscaling import await_nodes
from pipelines.shards.reading import TrainingError
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.display import Display, is_loss
from pipelines.training.loop import DivergedError, Follower, Loop, Record
from pipelines.training.plan import LoopPlan

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer
    from ray.util.queue import Queue

    from pipelines.cluster.session import Cluster

logger = logging.getLogger("train")

#: How often a failed worker group is restarted from the last checkpoint before the job gives up. Lost nodes
#: (preemptions) do not count.
MAX_FAILURES = 3
#: Seconds between checks for new nodes, with --workers MIN:MAX. Not often, because using them restarts all workers from
#: the last checkpoint.
RESIZE_SECONDS = 60.0
#: Seconds to wait after a training's end until its last lines are shown.
LAST_LINES = 30


def check_ray() -> None:
    """Raise RunError, within seconds, if `train_on_ray` could not start. Call it before taking the lock."""
    from pipelines.cluster import session

    session.check()


def train_on_ray(plan: LoopPlan, begin: Callable[[], None], worker: Callable[[dict[str, Any]], None]) -> None:
    """Train with Ray Train on plan.workers workers.

    begin: called once all checks have passed, right before the training. worker: the function that each worker runs,
    which calls `train_on_worker`. Its argument has `plan`, a Ray reference to the plan; `cpus`, of each worker; and
    `lines`, a queue for records and lines to show here. Raises TrainingError if a worker keeps failing or the losses
    diverge.
    """
    from pipelines.cluster import session

    cluster = session.start(plan.settings.output, *(shard.rsplit("/", 2)[0] for shard in plan.source.shards))
    use_gpu, cpus = _each_worker(plan, cluster)
    plan = replace(plan, settings=replace(plan.settings, device="cuda" if use_gpu else "cpu"))
    lines = _queue_here()
    trainer = _trainer(plan, worker, cpus, lines)
    begin()
    errors, failure = _fit(trainer, plan, lines)
    if errors:
        raise TrainingError(min(errors))
    if failure is not None:
        checkpoints = Checkpoints(plan.settings.checkpoints, plan.settings.keep)
        raise TrainingError(
            f"training failed: {_root(failure)}; the last good checkpoint is {checkpoints.newest()}: "
            "continue with --resume"
        ) from failure


def _each_worker(plan: LoopPlan, cluster: "Cluster") -> tuple[bool, float]:
    """Return whether each worker gets a GPU, and its CPUs. Raises ConfigurationError if the cluster has too few."""
    fewest, most = plan.workers
    use_gpu = choose_gpu(plan.settings.device, fewest, cluster)
    cpus = worker_cpus(cluster.node_cpus, most)
    if cluster.scaling:
        cpus = max(1.0, cpus)  # the autoscaler adds nodes for workers that do not fit now
    if use_gpu:
        cpus = min(1.0, cpus)  # the node with the GPU may have few CPUs
    if cluster.scaling:
        cluster.scaling.check(f"--workers {fewest}", cpus=fewest * cpus)
    return use_gpu, cpus


def _queue_here() -> "Queue":
    """Return a queue for what workers show in this terminal, which their logs do not reach.

    It is pinned to this node: on another one, the loss of that node would end the training merely because of its log.
    """
    import ray
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


def _trainer(
    plan: LoopPlan, worker: Callable[[dict[str, Any]], None], cpus: float, lines: "Queue"
) -> "TorchTrainer":
    """Return Ray Train's trainer, which starts nothing yet. plan: with the device of its workers. cpus: of each."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    (fewest, most), use_gpu = plan.workers, plan.settings.device == "cuda"
    runs, folder = storage.arrow_filesystem(storage.join(plan.settings.output, "ray_train"))
    return TorchTrainer(
        worker,
        # The plan holds the data's index and perhaps weights, so it travels once, through the object store.
        train_loop_config={"plan": ray.put(plan), "cpus": cpus, "lines": lines},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(  # type: ignore[call-arg] # its types lag
            num_workers=most if fewest == most else (fewest, most),  # type: ignore[arg-type] # its types lag
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
            use_gpu=use_gpu,
            # If workers took every CPU, the tasks that feed them would starve, and Ray Data would stall for ever.
            resources_per_worker={"CPU": cpus, "GPU": int(use_gpu)},
        ),
        run_config=RunConfig(
            name="run",
            storage_path=folder,
            storage_filesystem=runs,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def _fit(trainer: "TorchTrainer", plan: LoopPlan, lines: "Queue") -> tuple[list[str], Exception | None]:
    """Run the training, and show meanwhile what its workers send. Returns their errors, and Ray Train's own or None."""
    from ray.exceptions import RayError

    errors: list[str] = []
    listener = threading.Thread(target=_show, args=(lines, plan, errors), daemon=True)
    listener.start()
    failure: Exception | None = None
    try:
        trainer.fit()
    except SystemExit as error:  # Ray Train's answer to Ctrl-C, once it has stopped the workers
        raise KeyboardInterrupt from error
    except Exception as error:  # noqa: BLE001 (Ray wraps a worker's exception, of any class, in one of its own)
        failure = error
    with contextlib.suppress(RayError):  # a lost log must not hide the training's outcome
        lines.put(None)
        listener.join(LAST_LINES)
        lines.shutdown()
    return errors, failure


def _show(lines: "Queue", plan: LoopPlan, errors: list[str]) -> None:
    """Show the records and lines that workers send, until the driver sends None; append their errors to `errors`.

    Records become metrics, too.
    """
    from ray.exceptions import RayError

    with Display(plan.settings.steps, plan.settings.update_size, sys.stderr) as display:
        try:
            while (item := lines.get()) is not None:
                if isinstance(item, dict):
                    display(item)
                    try:
                        _report(item, plan.settings.steps)
                    except Exception as error:  # noqa: BLE001 (a metric is not worth the workers' errors below)
                        display.line(f"a record could not be reported as metrics: {error}")
                elif isinstance(item, str):
                    display.line(item)
                else:
                    errors.append(item[1])
        except RayError as error:
            display.line(f"the workers' reports are no longer shown here: {_root(error)}")


def _report(record: Record, steps: int) -> None:
    """Report a record as metrics. steps: of the whole training."""
    from pipelines.cluster import metrics

    for name, value in record.items():
        if is_loss(name):
            metrics.put("training_loss", value, loss=name)
    for name in ("step", "images_per_second", "workers"):
        metrics.put(f"training_{name}", record[name])
    metrics.put("training_steps", steps)


def choose_gpu(device: str, workers: int, cluster: "Cluster") -> bool:
    """Return True if each worker gets a GPU.

    Raises ConfigurationError if more GPUs are asked for than the cluster has and no autoscaler can add them.
    """
    enough = cluster.gpus >= workers
    if device == "cuda" and not enough:
        asked = f"--workers {workers} with --device cuda"
        lack = f"needs {workers} GPUs; this cluster has {cluster.gpus:g}"
        await_nodes(cluster.scaling, asked, lack, gpus=workers)
    elif device == "auto" and not enough and cluster.scaling and cluster.scaling.gpus:
        logger.warning(
            "the cluster has %g GPUs now for --workers %d: using CPUs; --device cuda asks the autoscaler for GPUs",
            cluster.gpus,
            workers,
        )
    return device == "cuda" or (device == "auto" and enough)


def worker_cpus(node_cpus: Sequence[float], workers: int) -> float:
    """Return the most CPUs per worker such that all workers fit on these nodes and Ray Data keeps one, or half of one.

    A whole number if there are enough; always above 0.
    """
    nodes = sorted(node_cpus) or [1.0]
    nodes[-1] = max(nodes[-1] - 1, nodes[-1] / 2)
    whole = [float(count) for count in range(int(max(nodes)), 0, -1)]
    parts = [1000 // count / 1000 for count in range(2, 2 * workers + 1)]
    shares = whole + parts
    return next((share for share in shares if sum(node // share for node in nodes) >= workers), shares[-1])


def feeding_tasks(cluster_cpus: float, workers: int, each: float) -> int:
    """Return the number of parallel decoding tasks per worker: its share of the CPUs that the workers leave free.

    each: CPUs of a worker.
    """
    return max(1, int((cluster_cpus - workers * each) / workers))


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


class Observing(Follower[Any], Protocol):
    """Follow a training, and write its final results."""

    def finish(self, training: Any) -> None:
        """Write the results, after the last step."""


def train_on_worker(
    config: dict[str, Any], kind: Callable[..., Loop], observe: Callable[..., Observing]
) -> None:
    """Run one worker's whole training, of any networks.

    config: the argument that `train_on_ray` passes. kind: a class of training, called with the arguments of `Loop`.
    observe: makes the follower from the plan, the training, and two functions that show a record and a line.
    """
    import ray
    from ray import train
    from ray.exceptions import RayError

    from pipelines.training.feed.on_ray import load_on_ray

    plan: LoopPlan = ray.get(config["plan"])
    settings, context = plan.settings, train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    logging.getLogger("train").setLevel(logging.INFO)
    torch.set_num_threads(max(1, int(config["cpus"])))
    training = kind(settings, plan.source.label_map, plan.init, rank, workers)

    def send(line: Record | str) -> None:
        with contextlib.suppress(RayError):  # a lost line is no reason to stop
            config["lines"].put(line)

    def report(record: Record) -> None:
        send({**record, "workers": workers})

    observer = observe(plan, training, report, send)
    # The present size of the cluster is enough: workers restart whenever nodes come or go.
    tasks = feeding_tasks(ray.cluster_resources().get("CPU", 0.0), workers, config["cpus"])
    load = partial(load_on_ray, decode=settings.decoding, tasks=tasks)
    try:
        training.run(plan.index, load, observer)
    except DivergedError as error:
        # Return instead of raising: Ray Train would restart the workers three times, with the same outcome.
        if error.here:  # not `send`: if this is lost, the training must not count as done
            config["lines"].put(("stopped", str(error)))
        return
    observer.finish(training)
