"""Each file of examples/ names the job that it is for, and that job takes it."""

import re
import shlex
from pathlib import Path

import pytest

from tests.job_parsers import parser_of

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"nightly.yaml", "train-gpus.yaml", "train-own.yaml"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_command_at_its_head_is_one_that_the_job_takes(
    path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    command = re.search(r"^# +(python jobs/.*)$", path.read_text(), re.MULTILINE)
    assert command is not None
    _, script, *words = shlex.split(command[1])
    assert f"examples/{path.name}" in words
    assert parser_of(Path(script).stem).parse_args(words).output
