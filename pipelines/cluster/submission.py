"""What `ray job submit` tells the job that it starts."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import ConfigurationError
from pipelines.storage import objects as storage

#: Where the job server puts what was given with the submission.
VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def runtime_env(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The runtime environment that was given with the submission; empty where there was none."""
    return json.loads(environment.get(VARIABLE) or "{}").get("runtime_env") or {}


def goes_with_the_job(uri: str) -> bool:
    """Whether `uri` lies in this machine's copy of --working-dir, which Ray made for the job and removes after it."""
    folder = _unpacked_folder()
    scheme, separator, _ = uri.partition("://")
    if folder is None or not uri.strip() or (separator and scheme.lower() not in ("file", "local")):
        return False
    with contextlib.suppress(ConfigurationError):  # what is no URI is complained of elsewhere
        return Path(storage.resolve(uri)[1]).resolve().is_relative_to(folder)
    return False


def _unpacked_folder() -> Path | None:
    """The copy; None where this process is no such job. A job is started in it, with it on its PYTHONPATH."""
    uri = runtime_env().get("working_dir")
    if not uri or uri.startswith("local://"):  # that is a folder of the machine's own
        return None
    from pipelines.cluster.ray_internals import unpacked_name  # importing Ray takes seconds

    name = unpacked_name(uri)
    places = [Path.cwd(), *(Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return next(
        (folder.resolve() for at in places for folder in (at, *at.parents) if folder.name == name), None
    )
