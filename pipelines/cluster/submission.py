"""Reads what `ray job submit` passes to the job that it starts."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import ConfigurationError
from pipelines import storage

#: Environment variable in which the job server passes the submission's settings.
VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def runtime_env(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the runtime environment given with the submission; empty if there is none."""
    return json.loads(environment.get(VARIABLE) or "{}").get("runtime_env") or {}


def goes_with_the_job(uri: str) -> bool:
    """Return True if `uri` is inside this machine's copy of --working-dir, which Ray removes after the job."""
    folder = _unpacked_folder()
    scheme, separator, _ = uri.partition("://")
    if folder is None or not uri.strip() or (separator and scheme.lower() not in ("file", "local")):
        return False
    with contextlib.suppress(ConfigurationError):  # an invalid URI is reported elsewhere
        return Path(storage.resolve(uri)[1]).resolve().is_relative_to(folder)
    return False


def _unpacked_folder() -> Path | None:
    """Return the copy, or None if this process is not such a job. A job starts in it, with it on its PYTHONPATH."""
    uri = runtime_env().get("working_dir")
    if not uri or uri.startswith("local://"):  # a permanent folder of the machine
        return None
    from pipelines.cluster.ray_internals import unpacked_name  # importing Ray takes seconds

    name = unpacked_name(uri)
    starts = [Path.cwd(), *(Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return next(
        (folder.resolve() for start in starts for folder in (start, *start.parents) if folder.name == name),
        None,
    )
