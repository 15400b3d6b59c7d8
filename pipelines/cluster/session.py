"""Starts Ray for a job, quietly: connects to the cluster that the environment names, or starts one on this machine."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Ray reads this when it is imported or starts. A value that is already set is kept.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import ray.data
from ray.exceptions import RayError
from ray.util import get_node_ip_address

from model.errors import CatalogRepairError, RunError
from pipelines import storage
from pipelines.cluster import autoscaling, preconditions, ray_internals, submission, termination

logger = logging.getLogger(__name__)

#: Start of the text that Ray Data appends to an exception's message.
_APPENDED = "\nFailed to apply UDF"

_started_here = False  # `start` has started or joined this process's Ray


@dataclass(frozen=True)
class Cluster:
    """Hold the cluster's present resources. node_cpus: the CPUs of each node.

    scaling: what an autoscaler may add; None if there is none. machines: the number of host names; one machine may have
    several nodes.
    """

    cpus: float
    gpus: float
    scaling: autoscaling.Scaling | None = None
    node_cpus: tuple[float, ...] = ()
    machines: int = 1


def check() -> None:
    """Raise RunError, within seconds, if `start` would fail after a long wait. Call it before taking a lock.

    Sets variables in os.environ if Ray cannot use its default folders.
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
    """Connect to the cluster of RAY_ADDRESS, or start Ray on this machine; workers get this process's storage settings.

    shared: URIs that workers read or write; warns of local ones if workers may be on several machines. If this process
    already has Ray, does nothing else. Raises RunError.
    """
    global _started_here
    _quieten()
    if not ray.is_initialized():
        check()
        ray_internals.leave_sigterm()
        address = os.environ.get("RAY_ADDRESS")
        # Workers on this machine inherit the environment, and one machine needs no dashboard.
        settings: dict[str, Any] = {"address": "local", "include_dashboard": False}
        if address:
            settings = {"address": address, "runtime_env": {"env_vars": worker_environment(os.environ)}}
        _pass_on_messages()
        try:
            # Workers' errors come back as exceptions, so their logs stay in Ray's folder.
            ray.init(**settings, log_to_driver=False, configure_logging=False)
        except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and plain Exception
            ray.shutdown()  # the part that has already started
            target = f"RAY_ADDRESS {address}" if address else "this machine"
            raise RunError(
                f"Ray did not start on {target}: {error}; its logs are below {ray_internals.temporary_folder()}; if "
                "the machines are only busy, give the same command again"
            ) from error
        _started_here = True
    now = cluster()
    _warn_of_local(shared, now)
    return now


def _warn_of_local(uris: Iterable[str], cluster: Cluster) -> None:
    local = list(dict.fromkeys(uri for uri in uris if storage.is_local(uri)))
    if local and (cluster.machines > 1 or cluster.scaling):
        size = f"has {cluster.machines} machines" if cluster.machines > 1 else "may get more machines"
        logger.warning(
            "the cluster %s, and each must see the same files at %s: fine on a shared file system; otherwise use "
            "s3:// URIs, or outputs will be scattered and inputs missing",
            size,
            ", ".join(local),
        )


def stop() -> None:
    """Shut Ray down if `start` has started it for this process, so that no process stays behind."""
    global _started_here
    if _started_here:
        ray.shutdown()
        _started_here = False


@contextmanager
def stopped_afterwards() -> Iterator[None]:
    """Call `stop` at the end of the block, except after Ctrl-C or SIGTERM.

    After Ctrl-C, Ray's threads are still at work, and the process ends anyway. After SIGTERM, Ray would end this
    process in its own way while it stops.
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
    """Return the running cluster's present resources."""
    now, nodes = ray.cluster_resources(), [node for node in ray.nodes() if node["Alive"]]
    return Cluster(
        now.get("CPU", 0.0),
        now.get("GPU", 0.0),
        autoscaling.find(),
        tuple(filter(None, (node["Resources"].get("CPU", 0.0) for node in nodes))),
        len({node["NodeManagerHostname"] for node in nodes}),
    )


@contextmanager
def our_errors() -> Iterator[None]:
    """Re-raise the project's own exceptions from workers unchanged; turn those of Ray and the storage into RunError."""
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
    """Return storage settings for workers, without those given with the job's submission: Ray refuses repetitions."""
    submitted = submission.runtime_env(environment).get("env_vars") or {}
    return {
        name: value
        for name, value in storage.worker_environment(environment).items()
        if name not in submitted
    }


def _pass_on_messages() -> None:
    """Let Ray's messages, those of its start too, go through the root logger, so that they have the log's format.

    `ray.init` must not configure logging then: it would give them a handler with a format of its own again.
    """
    ray_logger = logging.getLogger("ray")
    ray_logger.propagate = True
    ray_logger.setLevel(logging.WARNING)


def _quieten() -> None:
    """Silence Ray's messages except warnings that a user can act upon; the rest is in Ray's log files."""
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    # It repeats its own defaults.
    logging.getLogger("ray.autoscaler._private.util").setLevel(logging.ERROR)
    for name in ("ray.data.exceptions", "ray.data._internal.execution.streaming_executor_state"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they repeat exceptions that are raised anyway
    for handler in logging.getLogger("ray.data").handlers:
        if not isinstance(handler, logging.FileHandler) and handler.level < logging.WARNING:
            handler.setLevel(logging.WARNING)
    # A small catalog has fewer blocks than there are actors and tasks; this needs no warning.
    warnings.filterwarnings("ignore", message="The (minimum|maximum) number of concurrent (actors|tasks)")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # otherwise `our_errors` would get only text
    context.issue_detectors_config.detectors = []  # they report the memory of imported libraries
