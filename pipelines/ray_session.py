"""Starting Ray for a job: the cluster that the environment names, or one on this machine; without its
noise.
"""

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Read when Ray is imported or starts; whoever set them knows better. FATAL: Ray's C++ part writes warnings
# about its own internals to the terminal; they stay in its log files.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import ray
import ray.data
from ray.exceptions import RayError

from model.errors import CatalogRepairError, RunError
from pipelines import storage

#: Where the job server puts the runtime environment that was given with the submission.
_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
#: Where Ray Data begins to add advice of its own to an exception's message.
_APPENDED = "\nFailed to apply UDF"

_ours = False  # this process's Ray was started here


@dataclass(frozen=True)
class Cluster:
    """What the cluster has, or can have where it scales by itself."""

    cpus: float
    gpus: float


def start() -> Cluster:
    """Connect to the cluster of RAY_ADDRESS, else start Ray on this machine; workers get our storage
    settings.

    Does nothing where this process has Ray already.
    """
    global _ours
    _quieten()
    if not ray.is_initialized():
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
            raise RunError(f"Ray did not start on {place}: {error}") from error
        _ours = True
    return cluster()


def stop() -> None:
    """Leave Ray where `start` had started it for this process, so that no process stays behind."""
    global _ours
    if _ours:
        ray.shutdown()
        _ours = False


def cluster() -> Cluster:
    """The running cluster, or the largest that its autoscaler may make of it."""
    now = ray.cluster_resources()
    largest = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return Cluster(*(max(now.get(name, 0), largest.get(name, 0)) for name in ("CPU", "GPU")))


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
    submitted = json.loads(environment.get(_SUBMITTED) or "{}")
    taken = (submitted.get("runtime_env") or {}).get("env_vars") or {}
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
