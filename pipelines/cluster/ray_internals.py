"""Wraps the private parts of Ray that this project uses. Check this module with every new release of Ray."""

import math
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import ray
from ray._common.utils import get_default_ray_temp_dir, get_ray_address_file
from ray._private import ray_constants, utils
from ray._private.runtime_env.packaging import get_local_dir_from_uri
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient  # type: ignore[attr-defined] # compiled
from ray.autoscaler.v2.instance_manager.config import FileConfigReader
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined] # generated
from ray.experimental.internal_kv import _internal_kv_get

#: Resource that only the head has.
HEAD_RESOURCE = "node:__internal_head__"
#: Ends of the programs' paths that are Ray's monitor, with version 1 and 2 of the autoscaler.
_MONITORS = ("autoscaler/_private/monitor.py", "autoscaler/v2/monitor.py")
#: Key under which version 1 of the autoscaler writes its status.
_AUTOSCALING_STATUS = b"__autoscaling_status"


def leave_sigterm() -> None:
    """Make the next `ray.init` keep this process's own SIGTERM handler, if it has one.

    Otherwise Ray replaces it by two: one that raises SystemExit, and its crash handler, which treats SIGTERM as a
    crash, with native stack traces and abort() while Ray's threads run. Workers keep Ray's handlers.
    """
    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    utils.set_sigterm_handler = _set_unless_taken


def _set_unless_taken(handler: Callable[..., object]) -> None:
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, handler)


def head_address(address: str) -> str | None:
    """Return host:port of the head that `ray.init` would connect to. address: RAY_ADDRESS, either host:port or `auto`.

    None if it would start Ray on this machine. Raises ConnectionError if `auto` finds no Ray, ValueError for an invalid
    address, OSError for a host without an address.
    """
    head = canonicalize_bootstrap_address(address)
    return None if head is None else str(head)


def address_file() -> Path:
    """Return the file in which `ray start` leaves its address for `auto`."""
    return Path(get_ray_address_file(None))


def temporary_folder() -> Path:
    """Return Ray's default folder for sockets, logs and spilled objects."""
    return Path(get_default_ray_temp_dir())


def unpacked_name(uri: str) -> str:
    """Return the name of the folder into which a node unpacks a submitted working directory's `uri`."""
    return str(get_local_dir_from_uri(uri, "").name)


def monitor_flags() -> dict[str, str] | None:
    """Return the flags of the monitor process on this machine that serves the joined cluster, or None without one."""
    import psutil  # comes inside Ray, and can be imported only after it

    address = ray.get_runtime_context().gcs_address
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []  # none of a process that has just ended
        if any(word.endswith(_MONITORS) for word in words[:4]):
            flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
            if flags.get("gcs-address") == address:
                return flags
    return None


def autoscaler_reports() -> bool:
    """Return True if an autoscaler, of either version, has reported its state to the joined cluster's head."""
    if not is_autoscaler_v2(fetch_from_server=True):
        return bool(_internal_kv_get(_AUTOSCALING_STATUS))
    reply = GetClusterStatusReply()
    reply.ParseFromString(GcsClient(ray.get_runtime_context().gcs_address).get_cluster_status(timeout_s=10))
    return bool(reply.HasField("autoscaling_state"))


def autoscaling_limits(file: str) -> tuple[dict[str, float] | None, float]:
    """Return the limits in an autoscaler's configuration, which is read as the autoscaler reads it.

    The first is the most resources that its workers can have together, by name; None if it does not say those of each.
    The second is the shortest time, in seconds, after which it removes an idle worker; infinite if it removes none.
    Raises various errors for a file that is no such configuration.
    """
    config = FileConfigReader(file, skip_content_hash=True).get_cached_autoscaling_config()
    most, default = config.get_max_num_worker_nodes(), config.get_idle_timeout_s()
    resources: Counter[str] = Counter()
    idle = [math.inf]
    types = config.get_node_type_configs()
    workers = [kind for name, kind in types.items() if name != config.get_head_node_type()]
    for kind in workers:
        count = kind.max_worker_nodes if most is None else min(kind.max_worker_nodes, most)
        resources.update({resource: amount * count for resource, amount in kind.resources.items()})
        limit = default if kind.idle_timeout_s is None else kind.idle_timeout_s
        idle.append(math.inf if limit is None else limit)
    return dict(resources) if all(kind.resources for kind in workers) else None, min(idle)
