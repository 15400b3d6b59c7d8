"""Finds out whether an autoscaler adds nodes to the cluster, and how many at most: by its configuration and its state.

Ray runs a monitor process beside every head. Where its command line names a configuration (`ray up`, or `ray start
--autoscaling-config`), it is an autoscaler; without one it only watches a cluster of fixed size. On Kubernetes the head
has no monitor, and KubeRay's autoscaler, a container of its own, reports its state to the head. The names of node types
prove nothing: a head that was started by hand has none, and KubeRay's nodes have some without any autoscaler.

Ray, which takes seconds to import, is imported only when it is needed.
"""

import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from model.errors import ConfigurationError

AUTO, YES, NO = "auto", "yes", "no"
CHOICES = (AUTO, YES, NO)

#: What an actor may take from its node's start to its first block: it imports PyTorch, reads a model from the storage
#: and warms a GPU up. With an idle limit of 15 seconds, nodes were seen to leave before they worked.
START_SECONDS = 60.0
#: Seconds for the head to answer. On a busy one, a worker's start alone takes ten.
_ANSWER_SECONDS = 60.0
#: Seconds for KubeRay's autoscaler to report for the first time. It starts beside the head, and so does the job.
_REPORT_SECONDS = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scaling:
    """What an autoscaler may do.

    cpus, gpus: the most that the whole cluster can have; infinite if unknown. idle_seconds: after which a node without
    work is removed; infinite if unknown or never. source: the configuration's file, if it is known.
    """

    cpus: float = math.inf
    gpus: float = math.inf
    idle_seconds: float = math.inf
    source: str | None = None

    def check(self, asked: str, cpus: float = 0.0, gpus: float = 0.0) -> None:
        """Raise ConfigurationError if nodes with so much will never come. asked: the flags that need it."""
        for kind, wanted, most in (("CPUs", cpus, self.cpus), ("GPUs", gpus, self.gpus)):
            if wanted > most:
                raise ConfigurationError(
                    f"{asked}: that takes {wanted:g} {kind}, but the autoscaler's configuration {self.source} allows "
                    f"{most:g} in the whole cluster; ask for less, or change the node types there"
                )


_declared = AUTO


def declare(choice: str) -> None:
    """Set what --autoscaling says of the cluster, one of CHOICES. As RAY_ADDRESS, it is of this whole process."""
    global _declared
    _declared = choice


def find() -> Scaling | None:
    """Return what the autoscaler of the cluster may do, or None if there is none. Warns of a short idle limit.

    Ray must be connected. On a joined cluster whose head has no monitor, KubeRay's autoscaler has 30 s to report.
    """
    if _declared == NO:
        return None
    scaling = _ask()
    if scaling is None:
        return Scaling() if _declared == YES else None
    if scaling.idle_seconds < START_SECONDS:
        logger.warning(
            "the autoscaler removes nodes that are idle for %g s (%s), and an actor may take %g s to start: nodes may "
            "leave before they work; set idle_timeout_minutes to 1 or more",
            scaling.idle_seconds,
            scaling.source,
            START_SECONDS,
        )
    return scaling


def await_nodes(
    scaling: Scaling | None, asked: str, lack: str, otherwise: str = "", cpus: float = 0.0, gpus: float = 0.0
) -> None:
    """Log that the run waits for nodes. Raises ConfigurationError if none will come.

    asked: the flags. lack: what the cluster has too little of now. otherwise: a remedy, with "; " in front. cpus, gpus:
    what the flags need at least.
    """
    if scaling is None:
        if os.environ.get("RAY_ADDRESS"):
            otherwise += (
                "; where something adds nodes that Ray does not know of, --autoscaling yes waits for them"
            )
        raise ConfigurationError(f"{asked}: {lack}{otherwise}")
    scaling.check(asked, cpus, gpus)
    logger.info("%s: %s now; waiting for the autoscaler's nodes", asked, lack)


def look(head: Mapping[str, float]) -> Scaling | None:
    """Return what can be seen of an autoscaler on the head's machine, where this must be called.

    head: the head's own resources.
    """
    from pipelines.cluster import ray_internals

    monitor = ray_internals.monitor_flags()
    if monitor is None:
        return Scaling() if _reports_within(_REPORT_SECONDS) else None
    source = monitor.get("autoscaling-config")
    if source is None:
        return None
    if not ray_internals.autoscaler_reports():
        logger.warning(
            "the cluster's autoscaler has reported nothing so far; unless it has only just started, it does not work: "
            "monitor.log, in Ray's logs on the head, says why"
        )
    try:
        workers, idle_seconds = ray_internals.autoscaling_limits(source)
    except Exception as error:  # noqa: BLE001 (the autoscaler has read the file; what it holds by now is unknown)
        logger.warning("the autoscaler's limits are unknown, because %s cannot be read: %s", source, error)
        return Scaling(source=source)
    if workers is None:
        return Scaling(idle_seconds=idle_seconds, source=source)
    cpus, gpus = (workers.get(kind, 0.0) + head.get(kind, 0.0) for kind in ("CPU", "GPU"))
    return Scaling(cpus, gpus, idle_seconds, source)


def _reports_within(seconds: float) -> bool:
    from pipelines.cluster import ray_internals

    end = time.monotonic() + seconds
    while not ray_internals.autoscaler_reports():
        if time.monotonic() >= end:
            return False
        time.sleep(1)
    return True


def _ask() -> Scaling | None:
    """Call `look` on the head's machine: in this process if it runs there, as a submitted job does, else in a task."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from pipelines.cluster.ray_internals import HEAD_RESOURCE

    head = next(node for node in ray.nodes() if node["Alive"] and HEAD_RESOURCE in node["Resources"])
    if head["NodeID"] == ray.get_runtime_context().get_node_id():
        return look(head["Resources"])
    there = NodeAffinitySchedulingStrategy(head["NodeID"], soft=False)
    task = ray.remote(look).options(num_cpus=0, scheduling_strategy=there)
    try:
        answer: Scaling | None = ray.get(
            task.remote(head["Resources"]), timeout=_ANSWER_SECONDS + _REPORT_SECONDS
        )
    except RayError as error:
        logger.warning(
            "the head could not say whether it has an autoscaler: assuming that it has none; --autoscaling yes, or no, "
            "does not ask (%s)",
            str(error).strip().splitlines()[-1],
        )
        return None
    return answer
