"""A small catalog with all kills in one run; `make chaos` has a large one, with one kind of kill at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import scenarios
from tests.chaos.catalog import draw_catalog
from tests.chaos.ledger import Entry
from tests.chaos.stage import Stage, start_head

pytestmark = pytest.mark.ray

ROWS = 80


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A catalog that was corrected without kills, and a cluster of one node."""
    head = start_head()
    try:
        folder = tmp_path_factory.mktemp("chaos")
        yield Stage.draw(folder, str(folder), ROWS, seed=0, head=head)
    finally:
        head.kill()


def check(entry: Entry, stage: Stage) -> None:
    """Check that every row exists once with the expected result, and that every file is right."""
    assert entry.clean, "\n".join([*entry.events, *entry.complaints])
    assert entry.rows_in == sum(entry.statuses.values()) == ROWS
    corrected, rejected = entry.statuses["corrected"], entry.statuses["rejected"]
    assert corrected + rejected == sum(row.status == "corrected" for row in stage.first.drawn)
    assert entry.files == corrected > rejected > 0


def test_no_kill_loses_doubles_or_changes_a_row(stage: Stage) -> None:
    """SIGKILL of an actor, a worker, a node and the driver: the result equals that of a run without kills."""
    for scenario in (scenarios.undisturbed, scenarios.everything):
        for entry in scenario(stage):
            check(entry, stage)
    assert len(entry.events) == 4


def test_a_small_catalog_has_all_kinds_of_rows(tmp_path: Path) -> None:
    drawn = draw_catalog(ROWS, 0, str(tmp_path))
    assert {one.status for one in drawn} == {"corrected", "passthrough", "failed"}
    assert len({one.code for one in drawn}) > 4
    assert any(one.upload for one in drawn)
    assert draw_catalog(ROWS, 0, str(tmp_path)) == drawn
    assert draw_catalog(ROWS, 1, str(tmp_path)) != drawn
