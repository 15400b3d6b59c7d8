"""What this project uses of Ray that is not public, in one place: to be read again with every new release of Ray."""

import json
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir, get_ray_address_file
from ray._private import ray_constants, utils
from ray._private.runtime_env.packaging import get_local_dir_from_uri
from ray._private.services import canonicalize_bootstrap_address
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get

#: Where the first autoscaler, and a monitor without node types, write what they know.
_AUTOSCALING_STATUS = b"__autoscaling_status"


def leave_sigterm() -> None:
    """From the next `ray.init` on SIGTERM stays with this process's own handler, where it has one.

    Ray would put two in its place: one that raises SystemExit, and its handler of crashes, which takes SIGTERM for one:
    native stack traces, and abort() in the midst of Ray's threads. Workers keep theirs.
    """
    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    utils.set_sigterm_handler = _set_unless_taken


def _set_unless_taken(handler: Callable[..., object]) -> None:
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, handler)


def head_address(address: str) -> str | None:
    """host:port of the head that `ray.init` would connect to; `address` is RAY_ADDRESS: host:port, or `auto`.

    None where it would start Ray on this machine. Raises ConnectionError where `auto` finds no Ray, ValueError for
    what is no address, OSError for a host without an address.
    """
    found = canonicalize_bootstrap_address(address)
    return None if found is None else str(found)


def address_file() -> Path:
    """Where `ray start` leaves its address for `auto`."""
    return Path(get_ray_address_file(None))


def temporary_folder() -> Path:
    """Where Ray keeps sockets, logs and what does not fit into memory, unless it is told otherwise."""
    return Path(get_default_ray_temp_dir())


def unpacked_name(uri: str) -> str:
    """The name of the folder into which a node unpacks a submitted working directory's `uri`."""
    return str(get_local_dir_from_uri(uri, "").name)


def active_node_types() -> Iterable[str]:
    """The types of the running cluster's nodes, as an autoscaler of either generation tells them."""
    if is_autoscaler_v2(fetch_from_server=True):
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        return [node.ray_node_type_name for node in [*status.active_nodes, *status.idle_nodes]]
    told: dict[str, Any] = json.loads(_internal_kv_get(_AUTOSCALING_STATUS) or b"{}")
    return (told.get("autoscaler_report") or {}).get("active_nodes") or {}
