"""The job commands that infra/ and docs/cluster.md give to people and clusters."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.infra.rendered import JOBS, REPOSITORY, rayjob

INFRA = REPOSITORY / "infra"
#: Of the overlays, those whose commands differ.
COMMANDING = ("gpu", "cpu-only")
PAGES = (INFRA / "aws" / "cluster.yaml", REPOSITORY / "docs" / "cluster.md")


def documented(text: str) -> Iterator[list[str]]:
    """Each `python …jobs/*.py …` command in comments and prose, with its continued lines, as arguments."""
    lines = re.sub(r"(?m)^#[ ]?", "", text)
    joined = re.sub(r"\\\n\s*", " ", lines)
    for match in re.finditer(r"(?m)\bpython (?:/app/)?jobs/\w+\.py[^\n`]*", joined):
        yield shlex.split(match.group())


def words_of(job: dict[str, Any]) -> list[str]:
    """A RayJob's command as bash hands it on, with the flags of the example that its --config is a copy of.

    The file's flags stand first, because those of the command line win.
    """
    command = f"printf '%s\\n' {job['spec']['entrypoint']}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    number = words.index("--config")
    example = REPOSITORY / "examples" / Path(words[number + 1]).name
    flags = []
    for name, value in yaml.load(example.read_text(), yaml.BaseLoader).items():
        values = value if isinstance(value, list) else [] if value == "true" else [value]
        flags += [f"--{name}", *values]
    return [*words[:number], *flags, *words[number + 2 :]]


def of_page(path: Path) -> list[list[str]]:
    return list(documented(path.read_text()))


def names() -> list[str]:
    """Return a name of each job command for clusters, in manifests, comments and prose."""
    return [
        *(f"{overlay}/{name}" for overlay in COMMANDING for name in JOBS),
        *(f"{path.name}/{number}" for path in PAGES for number in range(len(of_page(path)))),
    ]


def command(name: str) -> list[str]:
    """Return the arguments of the command that `names` lists."""
    first, _, second = name.partition("/")
    if first in COMMANDING:
        return words_of(rayjob(first, second))
    (path,) = [page for page in PAGES if page.name == first]
    return of_page(path)[int(second)]
