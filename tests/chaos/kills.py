"""Sends SIGKILL to parts of a run, at moments that are observed instead of timed."""

import os
import signal
from collections.abc import Sequence

from tests.chaos.ledger import Entry
from tests.chaos.stage import Driver, Stage
from tests.processes import ray_workers
from tests.ray_nodes import RayNode

#: Kinds of Ray workers, by words in their titles.
CORRECTING, DECODING, COMMITTING = "MapWorker(MapBatches(Instance)).submit", "decode_rows", "commit_block"


class Sightings:
    """Counts how often a worker of the nodes has begun a block: its title has come to contain one of `words`."""

    def __init__(self, nodes: Sequence[RayNode], *words: str) -> None:
        self._nodes, self._words = nodes, words
        self.now: list[int] = []
        self.count = 0

    def look(self) -> "Sightings":
        """Look again; call this often."""
        pids = ray_workers([pid for node in self._nodes for pid in node.processes()], *self._words)
        self.count += len(set(pids) - set(self.now))
        self.now = pids
        return self


def kill_worker(
    stage: Stage, entry: Entry, driver: Driver, nodes: Sequence[RayNode], word: str, blocks: int
) -> None:
    """Send SIGKILL to a Ray worker of the nodes with `word` in its title, in the `blocks`-th such block.

    A committing worker is killed once images of its block exist.
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
    """Send SIGKILL to all of `node`, in the `blocks`-th block that is observed there."""
    sightings = Sightings([node], CORRECTING, DECODING, COMMITTING)
    driver.wait_until(lambda: sightings.look().count >= blocks and sightings.now)
    node.kill()
    entry.events.append(f"SIGKILL of a node, block {sightings.count}, {stage.progress(entry.scenario):.0%}")


def kill_driver(stage: Stage, entry: Entry, driver: Driver, at: float) -> None:
    """Send SIGKILL to the job itself, at the progress `at`."""
    driver.wait_until(lambda: stage.progress(entry.scenario) >= at)
    driver.kill()
    entry.events.append(f"SIGKILL of the driver at {stage.progress(entry.scenario):.0%}")
