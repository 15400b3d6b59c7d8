"""Starting Ray for a job: the cluster that the environment names, or one on this machine; without its
noise.
"""

import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Read when Ray is imported or starts; whoever set it knows better.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import ray.data
from ray.exceptions import RayError
from ray.util import get_node_ip_address

from model.errors import CatalogRepairError, RunError
from pipelines.cluster import preconditions, ray_internals, submission, termination
from pipelines.storage import objects as storage

logger = logging.getLogger(__name__)

#: Where Ray Data begins to add advice of its own to an exception's message.
_APPENDED = "\nFailed to apply UDF"

#: What Ray calls the type of a node that no autoscaler manages.
_UNMANAGED = re.compile(r"node_[0-9a-f]+")

_ours = False  # this process's Ray was started here


@dataclass(frozen=True)
class Cluster:
    """What the cluster has now, in all and CPUs of each node; scales: an autoscaler may add nodes to it. machines: host
    names, of which one may have several nodes.
    """

    cpus: float
    gpus: float
    scales: bool = False
    node_cpus: tuple[float, ...] = ()
    machines: int = 1


def check() -> None:
    """Raise RunError, within seconds, where `start` would wait for long and fail. For before a lock is taken.

    Sets variables in os.environ where Ray cannot use its usual folders.
    """
    if ray.is_initialized():
        return
    preconditions.settle_home()
    address = os.environ.get("RAY_ADDRESS")
    if address and preconditions.check_head(address):
        return
    preconditions.settle_folders()
    preconditions.check_own_network(get_node_ip_address())


def start(*shared: str) -> Cluster:
    """Connect to the cluster of RAY_ADDRESS, else start Ray on this machine; workers get our storage
    settings.

    shared: URIs that workers read or write; local ones are warned of where workers may be on several machines. Does
    nothing else where this process has Ray already. Raises RunError.
    """
    global _ours
    _quieten()
    if not ray.is_initialized():
        check()
        ray_internals.leave_sigterm()
        address = os.environ.get("RAY_ADDRESS")
        # Workers on this machine inherit the environment, and nobody looks at a dashboard of one machine.
        settings: dict[str, Any] = {"address": "local", "include_dashboard": False}
        if address:
            settings = {"address": address, "runtime_env": {"env_vars": worker_environment(os.environ)}}
        try:
            # Workers' errors come back as exceptions, so their logs stay in Ray's folder.
            ray.init(**settings, log_to_driver=False, logging_level=logging.WARNING)
        except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and plain Exception
            ray.shutdown()  # what had started already
            place = f"RAY_ADDRESS {address}" if address else "this machine"
            raise RunError(
                f"Ray did not start on {place}: {error}; its logs are below {ray_internals.temporary_folder()}; where "
                "machines are only busy, give the same command again"
            ) from error
        _ours = True
    found = cluster()
    _warn_of_local(shared, found)
    return found


def _warn_of_local(uris: Iterable[str], cluster: Cluster) -> None:
    local = list(dict.fromkeys(uri for uri in uris if storage.is_local(uri)))
    if local and (cluster.machines > 1 or cluster.scales):
        size = f"has {cluster.machines} machines" if cluster.machines > 1 else "may get more machines"
        logger.warning(
            "the cluster %s, and each must see the same files at %s: fine on a shared file system; otherwise give "
            "s3:// URIs, or outputs are scattered and inputs missing",
            size,
            ", ".join(local),
        )


def stop() -> None:
    """Leave Ray where `start` had started it for this process, so that no process stays behind."""
    global _ours
    if _ours:
        ray.shutdown()
        _ours = False


@contextmanager
def stopped_afterwards() -> Iterator[None]:
    """`stop` on the way out; not when interrupted, because Ray's threads are in the midst of their work then, and the
    process ends anyway. Nor after SIGTERM: Ray would end this process in its own way while it stops.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:
        termination.leave_to_it()
        stop()
        raise
    stop()


def cluster() -> Cluster:
    """The running cluster as it is now."""
    now, nodes = ray.cluster_resources(), [node for node in ray.nodes() if node["Alive"]]
    return Cluster(
        now.get("CPU", 0.0),
        now.get("GPU", 0.0),
        managed(ray_internals.active_node_types()),
        tuple(filter(None, (node["Resources"].get("CPU", 0.0) for node in nodes))),
        len({node["NodeManagerHostname"] for node in nodes}),
    )


def managed(node_types: Iterable[str]) -> bool:
    """Whether a node has a type of an autoscaler's configuration.

    A fixed cluster runs Ray's monitor as well, which then names every node's type after the node.
    """
    return any(not _UNMANAGED.fullmatch(name) for name in node_types)


@contextmanager
def our_errors() -> Iterator[None]:
    """Exceptions of ours come back from workers as they were raised there; Ray's and the storage's become
    RunError.
    """
    try:
        yield
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, CatalogRepairError):
            cause.args = tuple(str(argument).split(_APPENDED)[0] for argument in cause.args)
            raise cause from error
        raise RunError(f"a step of the run failed: {error}") from error
    except storage.STORAGE_ERRORS as error:
        raise RunError(f"the storage failed: {type(error).__name__}: {error}") from error


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Storage settings for workers, without those that came with the job's submission: Ray refuses repeats."""
    taken = submission.runtime_env(environment).get("env_vars") or {}
    return {
        name: value for name, value in storage.worker_environment(environment).items() if name not in taken
    }


def _quieten() -> None:
    """Leave warnings that a user can act upon; the rest is in Ray's log files."""
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    for name in ("ray.data.exceptions", "ray.data._internal.execution.streaming_executor_state"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they print what is raised as well
    for handler in logging.getLogger("ray.data").handlers:
        if not isinstance(handler, logging.FileHandler) and handler.level < logging.WARNING:
            handler.setLevel(logging.WARNING)
    # A small catalog has fewer blocks than there are actors and tasks; that is no reason to warn.
    warnings.filterwarnings("ignore", message="The (minimum|maximum) number of concurrent (actors|tasks)")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # else `our_errors` would find text only
    context.issue_detectors_config.detectors = []  # they report the memory of imported libraries
