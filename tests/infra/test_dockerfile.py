"""The image's recipe: what can be known without building it."""

import fnmatch
import re
from pathlib import Path

import pytest


@pytest.fixture
def instructions(repository: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continued lines joined and comments left out."""
    lines = (repository / "infra/Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def test_base_is_cuda_and_pinned(instructions: list[tuple[str, str]]) -> None:
    ((name, base),) = [part for part in instructions if part[0] == "FROM"]
    assert name == "FROM"
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu\d\d\.\d\d", base)


def test_the_container_does_not_run_as_root(instructions: list[tuple[str, str]]) -> None:
    users = [arguments for name, arguments in instructions if name == "USER"]
    assert users[-1] == "1000:1000"
    assert instructions.index(("USER", users[-1])) > max(
        n for n, part in enumerate(instructions) if part[0] == "RUN"
    )


def test_no_secret_goes_in(instructions: list[tuple[str, str]]) -> None:
    names = {name for name, _ in instructions}
    assert not {"ARG", "ADD"} & names
    environment = " ".join(arguments for name, arguments in instructions if name == "ENV")
    assert not re.search(r"(?i)key|token|secret|password", environment)


def test_dependencies_come_before_the_code(instructions: list[tuple[str, str]]) -> None:
    """A change of code must not install gigabytes again."""
    order = [f"{name} {arguments}" for name, arguments in instructions]
    install = next(n for n, line in enumerate(order) if 'pip install ".[' in line)
    copies = {line: n for n, line in enumerate(order) if line.startswith("COPY")}
    assert [line for line, n in copies.items() if n < install] == ["COPY pyproject.toml LICENSE README.md ./"]
    assert {"COPY model model", "COPY pipelines pipelines", "COPY jobs jobs"} <= copies.keys()


def test_tools_that_the_cluster_kinds_call_are_there(instructions: list[tuple[str, str]]) -> None:
    installed = next(
        arguments for name, arguments in instructions if name == "RUN" and "apt-get install" in arguments
    )
    assert {"wget", "rsync", "openssh-client"} <= set(installed.split())


def test_everything_that_is_copied_exists_and_passes_the_ignore_file(
    repository: Path, instructions: list[tuple[str, str]]
) -> None:
    rules = (repository / "infra/Dockerfile.dockerignore").read_text().splitlines()
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert "*" in rules
    for name, arguments in instructions:
        if name == "COPY":
            for source in arguments.split()[:-1]:
                assert (repository / source).exists()
                assert source in allowed


def test_every_package_is_installed(repository: Path) -> None:
    """A package that setuptools does not find is missing from the image, though not from a checkout."""
    patterns = re.search(
        r"\[tool\.setuptools\.packages\.find\]\ninclude = \[(.*)\]",
        (repository / "pyproject.toml").read_text(),
    )
    assert patterns
    include = re.findall(r'"(.*?)"', patterns.group(1))
    for top in ("model", "pipelines", "jobs"):
        for folder in {path.parent for path in (repository / top).rglob("*.py")}:
            name = ".".join(folder.relative_to(repository).parts)
            assert any(fnmatch.fnmatchcase(name, pattern) for pattern in include), name
