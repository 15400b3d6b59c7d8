"""The flags that the documentation names exist: each is in the generated docs/cli.md, those of a command in its job's
section.
"""

import re
from pathlib import Path

import pytest

_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_COMMAND = re.compile(r"(?m)\bpython jobs/(\w+\.py)([^\n`]*)")
#: Named on the pages, and other programs' own.
OTHERS = {"--working-dir"}


@pytest.fixture(scope="module")
def known(repository: Path) -> dict[str, set[str]]:
    """Job -> its flags."""
    sections = (repository / "docs/cli.md").read_text(encoding="utf-8").split("\n## ")[1:]
    return {section.partition("\n")[0]: set(_FLAG.findall(section)) for section in sections}


@pytest.fixture(scope="module")
def pages(repository: Path) -> dict[str, str]:
    """Name -> text of each page that people write, with continued lines joined."""
    paths = [*repository.glob("*.md"), *(repository / "docs").glob("*.md")]
    texts = {path.name: path.read_text(encoding="utf-8") for path in paths if path.name != "cli.md"}
    return {name: re.sub(r"\\\n\s*", " ", text) for name, text in texts.items()}


def test_commands_use_flags_of_their_job(pages: dict[str, str], known: dict[str, set[str]]) -> None:
    commands = [(name, *found) for name, text in pages.items() for found in _COMMAND.findall(text)]
    assert len(commands) > 10
    wrong = {
        (page, job, flag)
        for page, job, words in commands
        for flag in _FLAG.findall(words)
        if flag not in known[job]
    }
    assert wrong == set()


def test_flags_in_running_text_exist(pages: dict[str, str], known: dict[str, set[str]]) -> None:
    every = set.union(OTHERS, *known.values())
    named = {(page, flag) for page, text in pages.items() for flag in re.findall(r"`(--[a-z0-9-]+)", text)}
    assert {(page, flag) for page, flag in named if flag not in every} == set()
