"""Running a command as another user, one without a name, as `docker run --user 12345` does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

USER = 12345
#: Lets that user read what root has closed, such as root's own Python, and write nothing.
_READ_ALL = ("--inh-caps", "--ambient-caps", "--bounding-set")


def command_of_other_user(*line: str) -> list[str]:
    """`line`, run as USER. Skips the test where that is not allowed here, or that user could not run Python."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("only root may run a command as another user, with setpriv")
    become = [setpriv, f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    for more in ([f"{flag}=-all,+dac_read_search" for flag in _READ_ALL], ["--inh-caps=-all"]):
        probe = [*become, *more, sys.executable, "-c", "import pipelines.storage.objects"]
        root = Path(__file__).resolve().parents[1]
        if not subprocess.run(
            probe, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True
        ).returncode:
            return [*become, *more, *line]
    pytest.skip("another user cannot run this Python, or read this project")
