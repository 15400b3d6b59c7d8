"""The stage of scenarios: a Ray cluster on this machine, two nights' catalogs, and the job as a process to kill."""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipelines import storage
from pipelines.published.object_names import IMAGES
from tests import ray_nodes
from tests.catalogs import write_bundle
from tests.chaos.catalog import UPLOADS, DrawnRow, draw_catalog, next_night, rows_per_file, write
from tests.chaos.ledger import OF_STORAGE, Content, Entry, audit
from tests.poison import POISONOUS
from tests.processes import PATIENCE, wait_until
from tests.ray_nodes import RayNode

REPOSITORY = Path(__file__).resolve().parents[2]
#: Logical CPUs of a node: an actor and a task of each kind fill one, so a second node gets a share of the work.
CPUS = 1
#: Side of the bundle's input, pixels: large enough to give the generator some work, so that something can happen.
SIDE = 64

#: A random generator's images pass no default gate; these gates reject about a fifth of them.
GATES = """{version: 1, product_changed: 31, background_not_white: ~,
product_lost: ~, product_holes: ~, weak_outline: ~}
"""


class Driver:
    """The running job. Its output goes to `log`."""

    def __init__(self, line: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                line,
                cwd=REPOSITORY,
                env=dict(environment),
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
            )

    def wait_until(self, condition: Callable[[], object], pause: float = 0.005) -> None:
        """Wait until the condition holds. Raises AssertionError if the job ends before."""
        wait_until(condition, self.process, self.log, pause=pause)

    def end(self) -> int:
        """Wait for the exit code and return it."""
        return self.process.wait(timeout=2 * PATIENCE)

    def finish(self) -> str:
        """Wait for the end, which must be successful; return all output."""
        code = self.end()
        if code != 0:
            raise AssertionError(f"the job ended with {code}:\n{self.read_log()[-3000:]}")
        return self.read_log()

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        self.process.wait()

    def read_log(self) -> str:
        """Return all that the job wrote."""
        return self.log.read_text(errors="replace")


@dataclass
class Night:
    """A catalog, and the content of an undisturbed run's output in an empty folder."""

    name: str
    drawn: list[DrawnRow]
    undisturbed: Content | None = None
    images: int = 0  # number of images that such a run writes


@dataclass
class Stage:
    """Two catalogs and one cluster for many scenarios.

    folder: for logs and the model. root: URI above catalogs and outputs. environment: of the jobs. ignored: columns not
    compared with an undisturbed run's.
    """

    folder: Path
    root: str
    first: Night
    second: Night
    head: RayNode
    seed: int
    environment: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    _runs: dict[str, int] = field(default_factory=dict)
    _drivers: list[Driver] = field(default_factory=list)
    _ray_folders: list[str] = field(default_factory=list)

    @staticmethod
    def draw(folder: Path, root: str, rows: int, seed: int, head: RayNode) -> "Stage":
        """Return a stage with new catalogs and a small random bundle. `folder` and `root` must be empty."""
        folder.mkdir(parents=True, exist_ok=True)
        first = draw_catalog(rows, seed, root)
        second = next_night(first, seed, root)
        for name, drawn in (("first", first), ("second", second)):
            write(drawn, root, name)
        if not (folder / "bundle").exists():
            write_bundle(folder / "bundle", side=SIDE)
            (folder / "gates.yaml").write_text(GATES)
        return Stage(folder, root, Night("first", first), Night("second", second), head, seed)

    def elsewhere(self, name: str, root: str, environment: Mapping[str, str]) -> "Stage":
        """Return the same stage on another storage, compared with undisturbed runs on this one."""
        stage = Stage.draw(self.folder / name, root, len(self.first.drawn), self.seed, self.head)
        for night, other in ((stage.first, self.first), (stage.second, self.second)):
            night.undisturbed, night.images = other.undisturbed, other.images
        stage.environment, stage.ignored = {**self.environment, **environment}, OF_STORAGE
        return stage

    def output(self, scenario: str) -> str:
        """Return the URI of the scenario's results."""
        return storage.join(self.root, "outputs", scenario)

    def start(
        self,
        scenario: str,
        *flags: str,
        night: Night | None = None,
        own_ray: bool = False,
        poison: bool = True,
        dies: tuple[str, ...] = (),
    ) -> Driver:
        """Start the job; its log is `folder`/<scenario>-<number>.log.

        own_ray: it starts its own Ray, in which images are poison only if `poison`. dies: arguments of `dying`, if it
        is to kill itself.
        """
        number = self._runs[scenario] = self._runs.get(scenario, 0) + 1
        catalog = storage.join(self.root, "catalogs", (night or self.first).name)
        line = [
            sys.executable,
            *(("-m", "tests.chaos.dying", *dies) if dies else ()),
            "jobs/correct_catalog.py",
        ]
        line += [
            "--catalog",
            catalog,
            "--output",
            self.output(scenario),
            "--model",
            str(self.folder / "bundle"),
        ]
        line += ["--device", "cpu", "--actors", "1:2", "--no-fid", "--max-failed", "0.5"]
        line += ["--gates", str(self.folder / "gates.yaml")]
        line += ["--allow-uri", storage.join(self.root, UPLOADS), "--max-decode-seconds", "2", *flags]
        settings = self._settings()
        if own_ray:
            self._ray_folders.append(tempfile.mkdtemp(prefix="ray-"))  # short: names of sockets lie below it
            settings["RAY_TMPDIR"] = self._ray_folders[-1]
            settings |= POISONOUS if poison else {}
        else:
            settings["RAY_ADDRESS"] = self.head.address
        driver = Driver(line, settings, self.folder / f"{scenario}-{number}.log")
        self._drivers.append(driver)
        return driver

    def maintain(self, scenario: str, *words: str, dies: tuple[str, ...] = ()) -> Driver:
        """Start maintenance of the scenario's results; its log is beside those of the job. dies: see `start`."""
        number = self._runs[scenario] = self._runs.get(scenario, 0) + 1
        line = [sys.executable, *(("-m", "tests.chaos.dying", *dies) if dies else ())]
        line += ["jobs/maintain_output.py", *words, "--output", self.output(scenario), "--apply"]
        driver = Driver(line, self._settings(), self.folder / f"{scenario}-{number}.log")
        self._drivers.append(driver)
        return driver

    def _settings(self) -> dict[str, str]:
        """Return the environment variables of a job."""
        settings = {**ray_nodes.environment(), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        return settings | self.environment

    def progress(self, scenario: str) -> float:
        """Return the number of images in the output, as a share of an undisturbed run's."""
        return count_images(self.output(scenario)) / max(self.first.images, 1)

    def share(self, event: str, low: float, high: float) -> float:
        """Return a point of progress for a disturbance: random, but always the same for a seed and an event's name."""
        return random.Random(f"{self.seed} {event}").uniform(low, high)

    def block(self, event: str) -> int:
        """Return such a point in blocks, in the first third, because a node or an actor may not see many."""
        rows = len(self.first.drawn)
        return 1 + int(self.share(event, 0, rows / rows_per_file(rows) / 3))

    @contextmanager
    def entry(
        self,
        scenario: str,
        night: Night | None = None,
        output: str | None = None,
        comparable: bool = True,
        apart: Collection[str] = (),
    ) -> Iterator[Entry]:
        """Yield a line of the ledger, which the block fills and an audit of the output completes.

        night: whose rows are expected; default: the first. output: the scenario whose folder is used; default: this
        one. comparable: False if nothing is poison, so that some rows differ from those of an undisturbed run. apart:
        ids whose rows may differ from them, but for status and code.
        """
        entry, night, uri = Entry(scenario), night or self.first, self.output(output or scenario)
        started = time.monotonic()
        try:
            yield entry
            drawn = night.drawn if comparable else [row.without_poison() for row in night.drawn]
            expected = night.undisturbed if comparable else None
            content = audit(entry, drawn, self.root, uri, expected, self.ignored, apart)
            if night.undisturbed is None and entry.clean and not apart:
                night.undisturbed, night.images = content, count_images(uri)
        except Exception as error:  # noqa: BLE001 (any error becomes a line of the ledger)
            entry.complain("scenario that broke", [f"{type(error).__name__}: {error}"])
        finally:
            self._end_all()
        entry.seconds = time.monotonic() - started

    def _end_all(self) -> None:
        """Kill all jobs, so that none outlives its scenario."""
        while self._drivers:
            self._drivers.pop().kill()
        while self._ray_folders:
            shutil.rmtree(self._ray_folders.pop(), ignore_errors=True)


def start_head() -> RayNode:
    """Start the first node of a cluster, where poison is poison; the caller kills it."""
    return _node(None)


def second_node(stage: "Stage") -> RayNode:
    """Start a node that joins the stage's cluster; the caller kills it."""
    node = _node(stage.head.address)
    ray_nodes.wait_for_nodes(stage.head.address, 2)
    return node


def _node(address: str | None) -> RayNode:
    return RayNode(
        cpus=CPUS,
        address=address,
        settings={**ray_nodes.NOTICE_SOON, **POISONOUS, "PYTHONPATH": str(REPOSITORY)},
    )


def count_images(output: str) -> int:
    """Return the number of images under their final names."""
    return len(storage.list_files(storage.join(output, IMAGES)))
