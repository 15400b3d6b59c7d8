"""Where a scenario plays: a Ray cluster of this machine, a catalog, and the job as a process that can be killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipelines import storage
from pipelines.correction.rows import IMAGES
from tests import ray_nodes
from tests.catalogs import write_bundle
from tests.chaos.catalog import DrawnRow, draw_catalog, rows_per_file, write
from tests.chaos.ledger import Content, Entry, audit
from tests.processes import PATIENCE, ray_workers, wait_until
from tests.ray_nodes import RayNode

REPOSITORY = Path(__file__).resolve().parents[2]
#: Of the cluster's head, which otherwise takes up to a minute to see that a node is lost.
NOTICE_SOON = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "5000"}
#: Logical CPUs of a node: an actor and a task of each kind fill one, so a second node has a share of the work.
CPUS = 1
#: Pixels of the bundle's input: large enough that the generator takes its time, and something can happen meanwhile.
SIDE = 64


class Driver:
    """The job, running. Its output goes to `log`."""

    def __init__(self, line: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                line,
                cwd=REPOSITORY,
                env=dict(environment),
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
            )

    def wait_until(self, condition: Callable[[], object], pause: float = 0.005) -> None:
        """Return when the condition holds; an end before that is an AssertionError."""
        wait_until(condition, self.process, self.log, pause=pause)

    def end(self) -> int:
        """Wait for the exit code."""
        return self.process.wait(timeout=2 * PATIENCE)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        """All that it wrote."""
        return self.log.read_text(errors="replace")


@dataclass
class Stage:
    """One catalog and one cluster for many scenarios.

    folder: for logs and the model. root: URI that catalog and outputs lie below.
    """

    folder: Path
    root: str
    drawn: list[DrawnRow]
    head: RayNode
    seed: int
    flags: tuple[str, ...] = ()
    undisturbed: Content | None = None
    images: int = 0  # that an undisturbed run writes
    _runs: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def draw(folder: Path, root: str, rows: int, seed: int, head: RayNode) -> "Stage":
        """A stage with a catalog newly written, and a small random bundle. Below `folder` and `root` nothing may be."""
        folder.mkdir(parents=True, exist_ok=True)
        drawn = draw_catalog(rows, seed, root)
        write(drawn, root)
        write_bundle(folder / "bundle", side=SIDE)
        return Stage(folder, root, drawn, head, seed)

    def output(self, scenario: str) -> str:
        """Where the scenario's results go."""
        return storage.join(self.root, "outputs", scenario)

    def start(self, scenario: str, *flags: str, catalog: str = "catalog", **environment: str) -> Driver:
        """The job on the cluster; its log is `folder`/<scenario>-<number>.log."""
        number = self._runs[scenario] = self._runs.get(scenario, 0) + 1
        line = [sys.executable, "jobs/correct_catalog.py", "--catalog", storage.join(self.root, catalog)]
        line += ["--output", self.output(scenario), "--model", str(self.folder / "bundle"), "--no-fid"]
        line += ["--device", "cpu", "--actors", "1:2", "--max-failed", "0.5", *self.flags, *flags]
        settings = {**ray_nodes.environment(), "RAY_ADDRESS": self.head.address, "OMP_NUM_THREADS": "1"}
        settings |= {"PYTHONPATH": str(REPOSITORY), **environment}
        return Driver(line, settings, self.folder / f"{scenario}-{number}.log")

    def progress(self, scenario: str) -> float:
        """Images in the output, as a share of an undisturbed run's."""
        return count_images(self.output(scenario)) / max(self.images, 1)

    def share(self, event: str, low: float, high: float) -> float:
        """A point of progress for a disturbance: random, but always the same for the seed and the event's name."""
        return random.Random(f"{self.seed} {event}").uniform(low, high)

    def block(self, event: str) -> int:
        """The same in blocks: one of the first third, since a node or an actor need not see many."""
        return 1 + int(self.share(event, 0, len(self.drawn) / rows_per_file(len(self.drawn)) / 3))

    @contextmanager
    def entry(self, scenario: str) -> Iterator[Entry]:
        """A line of the ledger: filled by the block and, when it ends, by an audit of the output."""
        entry = Entry(scenario)
        started = time.monotonic()
        try:
            yield entry
            content = audit(entry, self.drawn, self.root, self.output(scenario), self.undisturbed)
            if self.undisturbed is None:
                self.undisturbed, self.images = content, count_images(self.output(scenario))
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            entry.complain("scenario that broke", [f"{type(error).__name__}: {error}"[-4000:]])
        entry.seconds = time.monotonic() - started


def start_head() -> RayNode:
    """The first node of a cluster; whoever starts it kills it."""
    return RayNode(cpus=CPUS, settings={**NOTICE_SOON, "PYTHONPATH": str(REPOSITORY)})


def count_images(output: str) -> int:
    """Images that are there under their names."""
    return len(storage.list_files(storage.join(output, IMAGES)))


def finish(entry: Entry, driver: Driver) -> None:
    """Wait for the job, which must end well."""
    code = driver.end()
    if code != 0:
        raise AssertionError(f"the job ended with {code}:\n{driver.said()[-3000:]}")


#: What runs in a Ray worker, by words of its title.
CORRECTING, DECODING, COMMITTING = "MapWorker(MapBatches(Instance)).submit", "decode_rows", "commit_block"


class Sightings:
    """How often a worker of the nodes has begun with a block: has come to have one of `words` in its title."""

    def __init__(self, nodes: Sequence[RayNode], *words: str) -> None:
        self._nodes, self._words = nodes, words
        self.now: list[int] = []
        self.count = 0

    def look(self) -> "Sightings":
        """Look again; it is to be called often."""
        seen = ray_workers([pid for node in self._nodes for pid in node.processes()], *self._words)
        self.count += len(set(seen) - set(self.now))
        self.now = seen
        return self


def kill_worker(
    stage: Stage, entry: Entry, driver: Driver, nodes: Sequence[RayNode], word: str, blocks: int
) -> None:
    """SIGKILL to a Ray worker of the nodes while it has `word` in its title, in the `blocks`-th block so seen.

    One that commits dies when the first images of that block are there.
    """
    sightings = Sightings(nodes, word)
    driver.wait_until(lambda: sightings.look().count >= blocks and sightings.now)
    if word == COMMITTING:
        reached = stage.progress(entry.scenario)
        driver.wait_until(lambda: stage.progress(entry.scenario) > reached and sightings.look().now)
    os.kill(sightings.now[0], signal.SIGKILL)
    entry.events.append(
        f"SIGKILL of a worker in {word}, block {sightings.count}, {stage.progress(entry.scenario):.0%}"
    )


def kill_node(stage: Stage, entry: Entry, driver: Driver, node: RayNode, blocks: int) -> None:
    """SIGKILL to all of `node`, in the `blocks`-th block that is seen there."""
    sightings = Sightings([node], CORRECTING, DECODING, COMMITTING)
    driver.wait_until(lambda: sightings.look().count >= blocks and sightings.now)
    node.kill()
    entry.events.append(f"SIGKILL of a node, block {sightings.count}, {stage.progress(entry.scenario):.0%}")


def kill_driver(stage: Stage, entry: Entry, driver: Driver, at: float) -> None:
    """SIGKILL to the job itself, at the progress `at`."""
    driver.wait_until(lambda: stage.progress(entry.scenario) >= at)
    driver.kill()
    entry.events.append(f"SIGKILL of the driver at {stage.progress(entry.scenario):.0%}")
