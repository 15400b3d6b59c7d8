import os
import subprocess
import sys
from pathlib import Path

import pytest

FAILING = """
from jobs import command
def main(argv):
    raise KeyError("lost")
command.run(main)
"""


@pytest.mark.parametrize(("level", "has_traceback"), [("INFO", False), ("DEBUG", True)])
def test_an_unforeseen_error_is_one_line(level: str, has_traceback: bool, repository: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(repository), "LOG_LEVEL": level}
    found = subprocess.run(
        [sys.executable, "-c", FAILING], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1] == (
        "error: unexpected KeyError: 'lost'; run again with LOG_LEVEL=DEBUG for the traceback"
    )
    assert ("Traceback" in found.stderr) == has_traceback
    assert has_traceback or len(found.stderr.splitlines()) == 1
