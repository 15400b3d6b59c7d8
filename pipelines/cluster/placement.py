"""Decides which resources each step of a run requests from the cluster, so that steps overlap and none waits for ever.

On a machine with n CPUs, up to n actors request three quarters of each and leave a quarter of each to the tasks
that read, decode and write. With whole CPUs, one actor per CPU would leave none, and no task could ever run. How much
of a core a process really uses is up to the operating system.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from model.errors import CatalogRepairError
from pipelines.cluster.autoscaling import await_nodes
from pipelines.cluster.session import Cluster

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Shares of a CPU, such that one task of each kind and an actor fit on one. The shares of reading and decoding must
#: differ, or Ray Data would fuse the two, and the task that reads a large file would decode all of it alone.
_READ, _TASK, _ACTOR = 0.05, 0.1, 0.75
#: With GPUs the actors hardly use the CPU, so decoding and writing request as much as they use.
_GPU_TASK, _GPU_ACTOR = 0.75, 0.2
#: Actors that a run prepares for where nothing says how many nodes will come.
_TENS = 64
#: Rows in one call of a GPU actor, which splits them into batches.
_GPU_ROWS = 256


@dataclass(frozen=True)
class Placement:
    """Hold the device ('cpu' or 'cuda'), the number of actors, and the resources of actors and tasks.

    gpus_per_actor: share of a GPU. tasks_per_step: parallel tasks of a step (0: any number). cpus_per_actor: None for
    the share that suits actors beside tasks. limit: where an autoscaler adds nodes and does not say how many, the most
    actors that they may run; `max_actors` is then the number that fits now. None: `max_actors` is the most. beside: the
    most actors for `beside_tasks`; None where the user has chosen, and where an autoscaler follows the actors.
    """

    device: str
    min_actors: int
    max_actors: int
    gpus_per_actor: float = 0.0
    tasks_per_step: int = 0
    cpus_per_actor: float | None = None
    limit: int | None = None
    beside: int | None = None

    @property
    def expected_actors(self) -> int:
        """Return a number of actors to divide work for: those that fit now, or some tens if nodes are to come."""
        return max(self.max_actors, min(self.limit or 0, _TENS))

    def beside_tasks(self) -> "Placement":
        """Return the placement of actors in a graph whose tasks compute nearly as much as the actors do.

        One for each core would only make them compete: on two cores, two generators corrected 9 images/s, one 13.
        """
        if self.beside is None:
            return self
        return replace(
            self, min_actors=min(self.min_actors, self.beside), max_actors=min(self.max_actors, self.beside)
        )

    def read(self, source: Dataset, function: Callable[..., Any], settings: Mapping[str, Any]) -> Dataset:
        """Apply `function` to the blocks of `source`, in tasks that mostly wait for storage."""
        return on_tasks(source, function, settings, _READ, self.tasks_per_step)

    def tasks(self, source: Dataset, function: Callable[..., Any], settings: Mapping[str, Any]) -> Dataset:
        """Apply `function` to the blocks of `source`, in tasks that compute."""
        cpus = _TASK if self.device == "cpu" else _GPU_TASK
        return on_tasks(source, function, settings, cpus, self.tasks_per_step)

    def actors(
        self,
        source: Dataset,
        kind: type,
        settings: Mapping[str, Any],
        batch_size: int,
        whole_blocks: bool = False,
    ) -> Dataset:
        """Apply an instance of `kind` in every actor to blocks of `source`; with GPUs, to several batches at a time.

        whole_blocks: with GPUs use only `batch_size` rows at a time. For rows that each mean much work.
        """
        on_gpu = self.device == "cuda"
        return source.map_batches(
            Instance,
            fn_constructor_kwargs={"kind": kind, "settings": dict(settings)},
            batch_format="pyarrow",
            # On CPUs a whole block, of which only the last batch may not be full.
            batch_size=(batch_size if whole_blocks else max(batch_size, _GPU_ROWS)) if on_gpu else None,
            compute=ActorPoolStrategy(min_size=self.min_actors, max_size=self.limit or self.max_actors),
            num_cpus=self.cpus_per_actor or (_GPU_ACTOR if on_gpu else _ACTOR),
            num_gpus=self.gpus_per_actor if on_gpu else None,
        )


class Instance:
    """Hold an object of `kind` in an actor. An error of its constructor is raised by the first call.

    Ray reports a failed constructor only as the text of a traceback, and loses the exception.
    """

    def __init__(
        self, kind: Callable[..., Callable[[pa.Table], pa.Table]], settings: Mapping[str, Any]
    ) -> None:
        self._error: CatalogRepairError | None = None
        try:
            self._call = kind(**settings)
        except CatalogRepairError as error:
            self._error = error

    def __call__(self, table: pa.Table) -> pa.Table:
        if self._error is not None:
            raise self._error
        return self._call(table)


def choose_placement(
    device: str,
    cluster: Cluster,
    actors: tuple[int, int] | None,
    gpus_per_actor: float | None,
    most: int,
    flag: str = "--device",
    gpu_share: float = 1.0,
) -> Placement:
    """Decide on the device and the actors.

    device: 'auto', 'cpu' or 'cuda', as given with `flag`. actors: the user's (min, max), or None. gpus_per_actor: the
    user's choice, or None; above 0 requests GPUs. most: the number of actors that the work can keep busy; without
    `actors` there are so many, if the cluster has room for them now or an autoscaler may add it. gpu_share: an actor's
    share of a GPU, used without `gpus_per_actor`.

    Raises ConfigurationError if the cluster lacks the requested resources. If an autoscaler can add them, a line is
    logged instead.
    """
    wants_gpu = device == "cuda" or bool(gpus_per_actor)
    share = gpus_per_actor or gpu_share
    if wants_gpu and not cluster.gpus:
        asked = f"{flag} cuda" if device == "cuda" else f"--gpus-per-actor {gpus_per_actor:g}"
        least = (actors[0] if actors else 1) * share
        lack, otherwise = "the cluster has no GPU", f"; use {flag} cpu"
        await_nodes(cluster.scaling, asked, lack, otherwise, gpus=least)
    if wants_gpu or (device == "auto" and cluster.gpus and gpus_per_actor is None):
        return _place_on_gpus(cluster, actors, share, most)
    if device == "auto" and cluster.scaling and cluster.scaling.gpus and gpus_per_actor is None:
        logger.warning("no node has a GPU now: using CPUs; %s cuda asks the autoscaler for GPUs", flag)
    return _place_on_cpus(cluster, actors, most, f"{flag} {device}")


def _place_on_gpus(cluster: Cluster, actors: tuple[int, int] | None, share: float, most: int) -> Placement:
    least = (actors[0] if actors else 1) * share
    if cluster.gpus and least > cluster.gpus:
        asked = (f"--actors {actors[0]}:{actors[1]} " if actors else "") + f"--gpus-per-actor {share:g}"
        lack = f"that takes {least:g} GPUs, the cluster has {cluster.gpus:g}"
        await_nodes(cluster.scaling, asked, lack, gpus=least)
    if actors:
        return Placement("cuda", *actors, share)
    later = cluster.scaling.gpus / share if cluster.scaling else 0.0
    high, limit = _most_actors(cluster.gpus / share, later, most)
    return Placement("cuda", 1, high, share, limit=limit)


def _place_on_cpus(cluster: Cluster, actors: tuple[int, int] | None, most: int, asked: str) -> Placement:
    cpus, scaling = max(1, int(cluster.cpus)), cluster.scaling
    least = actors[0] if actors else 1
    if least > cluster.cpus:
        asked = f"--actors {actors[0]}:{actors[1]}" if actors else asked
        otherwise = f", so at most {cpus} actors start" if cluster.cpus else ""
        lack = f"the cluster has {int(cluster.cpus)} CPUs"
        await_nodes(scaling, asked, lack, otherwise, cpus=least)
    # More actors than CPUs could take what the tasks need. Decoding and writing get at most half of the cores each:
    # more processes cost memory and are no faster.
    if actors:
        cpus = max(cpus, actors[1]) if scaling else cpus  # including nodes that the autoscaler will add
        return Placement("cpu", least, min(actors[1], cpus), tasks_per_step=-(-cpus // 2))
    later = scaling.cpus if scaling else 0.0
    high, limit = _most_actors(cpus, later, most)
    tasks = 0 if limit else -(-int(max(cpus, later)) // 2)
    beside = None if scaling else -(-cpus // 2)
    return Placement("cpu", max(1, min(cpus, most)), high, tasks_per_step=tasks, limit=limit, beside=beside)


def _most_actors(now: float, later: float, work: int) -> tuple[int, int | None]:
    """Return `max_actors` and `limit` of a Placement for up to `work` actors.

    now, later: how many the present nodes have room for, and those that an autoscaler may add, too (infinite: unknown).
    """
    if math.isinf(later):
        return max(1, min(work, int(now))), max(1, work)
    return max(1, min(work, int(max(now, later)))), None


def on_tasks(
    source: Dataset, function: Callable[..., Any], settings: Mapping[str, Any], cpus: float, most: int = 0
) -> Dataset:
    """Apply `function(table, **settings)` to the blocks of `source`, in at most `most` tasks (0: any) of `cpus`."""
    return source.map_batches(
        function,
        fn_kwargs=dict(settings),
        batch_format="pyarrow",
        batch_size=None,
        compute=TaskPoolStrategy(size=most or None),
        num_cpus=cpus,
    )


def in_task(function: Callable[..., Any], returns: int, *arguments: Any, memory: int = 0) -> Any:
    """Call `function` in a task of half a CPU, which is tried again if it fails.

    Returns a reference to its result, or a list of references if it returns a list of several (`returns`). memory: what
    it needs in bytes, so that not too many such tasks run on one node. At most all memory of a node with CPUs is
    requested: more than any node has would be waited for without an end.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    memory = int(min(memory, max((node.get("memory", 0.0) for node in nodes), default=0.0)))
    task: Any = ray.remote(num_cpus=0.5, num_returns=returns, memory=memory, retry_exceptions=True)(function)
    return task.remote(*arguments)


def fetched(value: "T | ray.ObjectRef[T]") -> T:
    """Return the object itself, if `value` is a reference to it in Ray's object store."""
    return ray.get(value) if isinstance(value, ray.ObjectRef) else value


def tables(source: Dataset) -> Iterator[pa.Table]:
    """Yield the blocks of `source` as they are computed."""
    return cast(Iterator[pa.Table], iter(source.iter_batches(batch_size=None, batch_format="pyarrow")))


def configure(block_bytes: int, retried_errors: list[str]) -> None:
    """Configure Ray Data for a run: the size of blocks, and which exceptions of a task are retried."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = block_bytes
    context.retried_map_errors = retried_errors
    context.max_map_retries = 2
