"""OUTPUT/runs/<run>.json: how a run ended, whatever ended it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigurationError, RunError, TooManyFailedError
from pipelines import storage
from pipelines.cluster.placement import Placement
from pipelines.correction.plan import Plan
from pipelines.correction.report.record import Record
from pipelines.correction.run import Run
from pipelines.published.layout import RUN, RunFolder
from pipelines.published.records import note_killed, to_json
from tests.catalogs import tree


@pytest.fixture
def record(plan: Plan) -> Record:
    """The record of a run that has begun and corrects."""
    record = Record(plan.config.output)
    record.is_kept = True
    record.begin(Run(plan, Placement("cpu", 1, 1), record.started_at, record.name))
    return record


def read(record: Record) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(storage.read_bytes(RunFolder(record.output).record(record.name)))
    return said


ENDS: list[tuple[Callable[[Record], None], str, int, str]] = [
    (lambda record: record.fail(RunError("a step failed"), "a step failed"), "failed", 1, "a step failed"),
    (lambda record: record.fail(TooManyFailedError("all"), "all"), "failed", 3, "all"),
    (lambda record: record.fail(ConfigurationError("late"), "late"), "failed", 2, "late"),
    (lambda record: record.fail(KeyError("x"), "unexpected"), "failed", 1, "unexpected"),
    (lambda record: record.fail(KeyboardInterrupt(), ""), "stopped", 130, "interrupted (Ctrl-C)"),
    (lambda record: record.stop(), "stopped", 143, "terminated (SIGTERM)"),
]


@pytest.mark.parametrize(("end", "state", "code", "reason"), ENDS)
def test_a_run_that_does_not_publish_says_how_it_ended(
    record: Record, end: Callable[[Record], None], state: str, code: int, reason: str
) -> None:
    assert (read(record)["state"], read(record)["ended_at"]) == ("running", None)
    end(record)
    said = read(record)
    assert (said["state"], said["exit_code"], said["reason"]) == (state, code, reason)
    assert said["ended_at"] >= said["started_at"]
    assert said["seconds"]["total"] >= 0
    assert said["configuration"]["model"].endswith("bundle")
    assert said == json.loads(json.dumps(record.content))


def test_the_first_word_on_the_end_counts(record: Record) -> None:
    """SIGTERM comes while the run publishes: what is published is complete."""
    storage.write_bytes(RunFolder(record.output).record(record.name), to_json({"state": "complete"}))
    record.stop()
    assert read(record) == {"state": "complete"}


def test_a_run_that_fails_before_it_has_begun_has_a_record(tmp_path: Path) -> None:
    record = Record(str(tmp_path))
    record.is_kept = True
    record.fail(RunError("Ray did not start"), "Ray did not start")
    said = read(record)
    assert (said["state"], said["exit_code"], said["reason"]) == ("failed", 1, "Ray did not start")
    assert said["run"] == record.name
    assert said["versions"]["ray"]


def test_a_refused_run_and_one_without_the_lock_leave_nothing(tmp_path: Path) -> None:
    refused = Record(str(tmp_path))
    refused.is_kept = True
    refused.fail(ConfigurationError("--catalog"), "--catalog")
    assert (refused.content["state"], refused.content["exit_code"]) == ("refused", 2)
    Record(str(tmp_path)).fail(RunError("no head"), "no head")
    assert tree(tmp_path) == {}


def test_a_record_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "runs").write_text("a file where the folder must be")
    record = Record(str(tmp_path))
    record.is_kept = True
    record.stop()
    assert "the record of this run could not be written" in caplog.text


def test_the_next_run_completes_the_record_of_a_killed_one(record: Record) -> None:
    note_killed(record.output)
    said = read(record)
    assert said["state"] == "killed"
    assert "out of memory" in said["reason"]
    assert said["rows_in"] == 0


def test_what_a_run_said_itself_is_not_changed_by_the_next(record: Record, tmp_path: Path) -> None:
    record.stop()
    said = read(record)
    note_killed(record.output)
    assert read(record) == said
    for content in (b"{}", b'{"run": "gone"}'):  # by another release, or the record was removed
        storage.write_bytes(RunFolder(record.output).at(RUN), content)
        note_killed(record.output)
    note_killed(str(tmp_path / "new"))


@pytest.mark.parametrize("content", [b"", b'{"run": "2026', b"[]"])
def test_a_record_that_was_cut_short_stops_no_run(record: Record, content: bytes) -> None:
    for uri in (RunFolder(record.output).record(record.name), RunFolder(record.output).at(RUN)):
        storage.write_bytes(uri, content)
        note_killed(record.output)
    record.stop()
    assert read(record)["state"] == "stopped"


def test_a_run_that_waited_comes_after_the_one_that_it_waited_for(record: Record) -> None:
    waiting = Record(record.output)
    waiting.started_at = record.started_at
    before = waiting.name
    waiting.restart()
    assert waiting.started_at > record.started_at
    assert waiting.name != before
