"""The job commands that infra/ and docs/cluster.md give to people and clusters."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
INFRA = REPOSITORY / "infra"


def manifests(path: Path) -> list[dict[str, Any]]:
    """Every Kubernetes object of a file, with those that a ConfigMap carries as text."""
    objects = [document for document in yaml.safe_load_all(path.read_text()) if document]
    carried = [
        yaml.safe_load(text)
        for document in objects
        if document["kind"] == "ConfigMap"
        for name, text in document["data"].items()
        if name.endswith(".yaml")
    ]
    return objects + carried


def rayjobs() -> list[dict[str, Any]]:
    """Every RayJob under infra/."""
    files = sorted((INFRA / "kuberay").glob("*.yaml"))
    return [document for path in files for document in manifests(path) if document["kind"] == "RayJob"]


def documented(text: str) -> Iterator[list[str]]:
    """Each `python …jobs/*.py …` command in comments and prose, with its continued lines, as arguments."""
    lines = re.sub(r"(?m)^#[ ]?", "", text)
    joined = re.sub(r"\\\n\s*", " ", lines)
    for match in re.finditer(r"(?m)\bpython (?:/app/)?jobs/\w+\.py[^\n`]*", joined):
        yield shlex.split(match.group())


def words_of(job: dict[str, Any]) -> list[str]:
    """A RayJob's command as bash hands it on, with the flags of the example that its --config is a copy of."""
    command = f"printf '%s\\n' {job['spec']['entrypoint']}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    number = words.index("--config")
    example = REPOSITORY / "examples" / Path(words[number + 1]).name
    for name, value in yaml.load(example.read_text(), yaml.BaseLoader).items():
        values = value if isinstance(value, list) else [] if value == "true" else [value]
        words += [f"--{name}", *values]
    return words[:number] + words[number + 2 :]


def all_commands() -> dict[str, list[str]]:
    """Name -> arguments of every job command for clusters, in manifests, comments and prose."""
    found = {f"RayJob {_name(job)}": words_of(job) for job in rayjobs()}
    for path in [INFRA / "aws" / "cluster.yaml", REPOSITORY / "docs" / "cluster.md"]:
        for number, command in enumerate(documented(path.read_text()), 1):
            found[f"{path.name} {number}"] = command
    return found


def _name(job: dict[str, Any]) -> str:
    return str(job["metadata"].get("name") or job["metadata"]["generateName"].rstrip("-"))
