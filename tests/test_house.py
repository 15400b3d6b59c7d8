"""The layout of the packages, as pipelines/__init__.py describes it: which may import which."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Rooms (packages) by floor, the lowest first. A module may import from its own room, and from rooms on lower floors.
FLOORS = (
    {"model"},
    {"storage"},
    {"reports"},
    {"images", "cluster"},
    {"contracts"},
    {"synthesis"},
    {"shards", "metrics", "inference", "saliency", "published"},
    {"checking", "correction", "evaluation", "maintenance", "preparation", "sample_catalog", "training"},
    {"jobs"},
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for top in ("jobs", "pipelines", "model"):
        for path in sorted((ROOT / top).rglob("*.py")):
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield dotted.removesuffix(".__init__"), ast.parse(path.read_text())


def imports() -> Iterator[tuple[str, str]]:
    """Yield (module, imported name) for the project's own code."""
    for module, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "pipelines":
                yield from ((module, f"pipelines.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield module, node.module or ""
            elif isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)


def room(module: str) -> str | None:
    """Return the room of one of the project's modules; None for any other module."""
    first, _, rest = module.partition(".")
    if first == "pipelines":
        return rest.partition(".")[0] or None
    return first if first in ("jobs", "model") else None


def test_every_room_has_a_floor_and_no_module_is_outside_a_room() -> None:
    rooms = {
        path.name for path in (ROOT / "pipelines").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert rooms == set(FLOOR) - {"jobs", "model"}
    assert [path.name for path in (ROOT / "pipelines").glob("*.py")] == ["__init__.py"]


def test_rooms_import_from_lower_floors_only() -> None:
    upwards = [
        f"{module} imports {imported}"
        for module, imported in imports()
        if (here := room(module))
        and (there := room(imported))
        and here != there
        and FLOOR[here] <= FLOOR[there]
    ]
    assert not upwards


def test_no_module_imports_itself_through_others() -> None:
    known = {module for module, _ in modules()}
    arrows: dict[str, set[str]] = defaultdict(set)
    for module, tree in modules():
        for node in tree.body:  # imports inside functions are late on purpose
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names} & known
                arrows[module] |= names or ({node.module} & known)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a cycle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for following in sorted(arrows[module]):
                visit(following, (*path, module))
            done.add(module)

    for module in sorted(known):
        visit(module, ())


@pytest.mark.parametrize("forbidden", ["ray", "fsspec", "s3fs", "pipelines", "jobs"])
def test_the_model_imports_neither_the_cluster_nor_the_storage(forbidden: str) -> None:
    assert not [
        f"{module} imports {imported}"
        for module, imported in imports()
        if room(module) == "model" and imported.partition(".")[0] == forbidden
    ]


def test_every_room_has_a_docstring() -> None:
    packages = [path.parent for top in ("pipelines", "model") for path in (ROOT / top).rglob("__init__.py")]
    assert len(packages) > len(FLOOR) - 2
    assert not [
        str(folder)
        for folder in packages
        if not ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    ]


def test_no_job_imports_at_its_start_what_takes_seconds_and_is_seldom_used() -> None:
    """Every driver and every Ray worker pays for what the modules import at their top."""
    jobs = [module for module, _ in modules() if module.startswith("jobs.")]
    slow = ["torchvision", "torch._dynamo", "scipy.signal", "scipy.stats", "numba"]
    script = f"import sys, {', '.join(jobs)}; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
