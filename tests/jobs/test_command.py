import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import command

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


@pytest.mark.parametrize("uri", ["https://cdn.example.com/x", "HTTP://x/y", "memory://x"])
def test_an_output_that_cannot_be_written_is_refused_by_its_flag(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = command.Parser("job")
    parser.add_argument("--output", type=command.destination)
    with pytest.raises(SystemExit):  # no flag is guessed
        parser.parse_args(["--out", "out"])
    for writable in ("out", "s3://bucket/out", "file:///out", "https", "memory/x"):
        assert parser.parse_args(["--output", writable]).output == writable
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--output", uri])
    assert caught.value.code == command.EXIT_USAGE
    assert "argument --output" in capsys.readouterr().err
