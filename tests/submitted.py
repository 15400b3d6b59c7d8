"""Makes this process look like one that `ray job submit --working-dir` has started."""

import json
from pathlib import Path

import pytest

from pipelines.cluster import submission


def submit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create the unpacked copy of a working directory below `folder`, move this process into it, and return it."""
    name = "_ray_pkg_0123456789abcdef"
    unpacked = folder / "session" / "runtime_resources" / "working_dir_files" / name
    unpacked.mkdir(parents=True)
    given = {"runtime_env": {"working_dir": f"gcs://{name}.zip"}, "metadata": {}}
    monkeypatch.setenv(submission.VARIABLE, json.dumps(given))
    monkeypatch.setenv("PYTHONPATH", f"{unpacked}:/elsewhere")
    monkeypatch.chdir(unpacked)
    return unpacked
