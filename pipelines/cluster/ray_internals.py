"""Wraps the private parts of Ray that this project uses. Check this module with every new release of Ray."""

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

#: Key under which version 1 of the autoscaler, and a monitor without node types, write their status.
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


def active_node_types() -> Iterable[str]:
    """Return the types of the running cluster's nodes, as either version of the autoscaler reports them."""
    if is_autoscaler_v2(fetch_from_server=True):
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        return [node.ray_node_type_name for node in [*status.active_nodes, *status.idle_nodes]]
    status_v1: dict[str, Any] = json.loads(_internal_kv_get(_AUTOSCALING_STATUS) or b"{}")
    return (status_v1.get("autoscaler_report") or {}).get("active_nodes") or {}
