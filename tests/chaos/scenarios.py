"""What is done to the catalog's correction. Each scenario ends with a job that ended well, and a line of the ledger."""

from collections.abc import Callable

from tests import ray_nodes
from tests.chaos.ledger import Entry
from tests.chaos.stage import (
    COMMITTING,
    CORRECTING,
    CPUS,
    DECODING,
    Stage,
    finish,
    kill_driver,
    kill_node,
    kill_worker,
)
from tests.ray_nodes import RayNode

Scenario = Callable[[Stage], Entry]

#: How a run goes on that was killed.
GO_ON = ("--overwrite",)


def undisturbed(stage: Stage) -> Entry:
    """Nothing happens; the other scenarios are compared with this one."""
    with stage.entry("undisturbed") as entry:
        finish(entry, stage.start("undisturbed"))
    return entry


def actor(stage: Stage) -> Entry:
    """A generator actor dies."""
    return _worker_dies(stage, "actor", CORRECTING)


def decoding(stage: Stage) -> Entry:
    """A worker dies that reads and decodes."""
    return _worker_dies(stage, "decoding", DECODING)


def committing(stage: Stage) -> Entry:
    """A worker dies that encodes and writes."""
    return _worker_dies(stage, "committing", COMMITTING)


def _worker_dies(stage: Stage, name: str, word: str) -> Entry:
    with stage.entry(name) as entry:
        driver = stage.start(name)
        kill_worker(stage, entry, driver, [stage.head], word, stage.block(name))
        finish(entry, driver)
    return entry


def node(stage: Stage) -> Entry:
    """A whole node dies, with all that ran and lay there."""
    with stage.entry("node") as entry:
        second = RayNode(cpus=CPUS, address=stage.head.address)
        try:
            ray_nodes.wait_for_nodes(stage.head.address, 2)
            driver = stage.start("node")
            kill_node(stage, entry, driver, second, stage.block("node"))
            finish(entry, driver)
        finally:
            second.kill()
    return entry


def driver(stage: Stage) -> Entry:
    """The job itself dies, again and again, each time a little later; at last it is let through."""
    with stage.entry("driver") as entry:
        for number, at in enumerate((0.0, 0.2, 0.6)):
            run = stage.start("driver", *(GO_ON if number else ()))
            kill_driver(stage, entry, run, at + stage.share(f"driver {number}", 0.01, 0.2))
        finish(entry, stage.start("driver", *GO_ON))
    return entry


def everything(stage: Stage) -> Entry:
    """Actor, workers, node and driver die in one run, which is then let through."""
    with stage.entry("everything") as entry:
        second = RayNode(cpus=CPUS, address=stage.head.address)
        try:
            ray_nodes.wait_for_nodes(stage.head.address, 2)
            run = stage.start("everything")
            kill_worker(stage, entry, run, [stage.head, second], CORRECTING, 1)
            kill_node(stage, entry, run, second, 1)
            kill_worker(stage, entry, run, [stage.head], COMMITTING, 1)
            kill_driver(stage, entry, run, 0.2)
        finally:
            second.kill()
        finish(entry, stage.start("everything", *GO_ON))
    return entry


#: In this order: the first is what the others are compared with.
ALL: dict[str, Scenario] = {
    one.__name__: one for one in (undisturbed, actor, decoding, committing, node, driver, everything)
}
