"""Runs a command as another user without a name, as `docker run --user 12345` does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

USER = 12345
#: Capabilities that let that user read files of root, such as root's own Python, but write nothing.
_READ_ALL = ("--inh-caps", "--ambient-caps", "--bounding-set")


def command_of_other_user(*line: str) -> list[str]:
    """Return a command that runs `line` as USER. Skips the test if that is not allowed, or USER cannot run Python."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("only root may run a command as another user, with setpriv")
    become = [setpriv, f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    for more in ([f"{flag}=-all,+dac_read_search" for flag in _READ_ALL], ["--inh-caps=-all"]):
        probe = [*become, *more, sys.executable, "-c", "import pipelines.storage"]
        root = Path(__file__).resolve().parents[1]
        if not subprocess.run(
            probe, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True
        ).returncode:
            return [*become, *more, *line]
    pytest.skip("another user cannot run this Python, or read this project")
