"""Publication, interrupted after every one of its steps; readers check the output each time."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import RunError
from pipelines import storage
from pipelines.published import publish as publishing
from pipelines.published.layout import WORKING, RunFolder
from pipelines.published.publish import Publication, finish_publishing, publish, published_rows
from tests.catalogs import tree


class KilledError(Exception):
    """Simulates SIGKILL."""


def write_next(output: str, run: str, names: list[str]) -> Publication:
    """Write a run that is ready to publish; every part contains the run's name."""
    folder = RunFolder(output)
    for name in names:
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.table({"run": [run]}), buffer)
        storage.write_bytes(folder.at("manifest", name), buffer.getvalue().to_pybytes())
    storage.write_bytes(folder.at("report", "index.html"), run.encode())
    storage.write_bytes(folder.at("run.json"), json.dumps({"run": run, "manifest_run": run}).encode())
    storage.write_bytes(folder.at("journal", "000", "part-x.parquet"), b"journal")
    parts = [f"{run}.parquet/part-{number}.parquet" for number in range(2)]
    for part in parts:
        storage.write_bytes(folder.at("changes", part), run.encode())
    return Publication(run, len(names), names, ["index.html"], success=True, changes=parts)


def changes_of(run: str) -> set[str]:
    """Return the names of the changes that `write_next` wrote."""
    return {f"changes/{run}.parquet/part-{number}.parquet" for number in range(2)}


def read(output: str) -> str | None:
    """Return the run whose manifest a careful reader gets, None if there is no complete one."""
    success = storage.join(output, "_SUCCESS")
    if not storage.exists(success):
        return None
    before = storage.read_bytes(success)
    try:
        parts = storage.list_files(storage.join(output, "manifest"), ".parquet")
        tables = [pq.read_table(pa.BufferReader(storage.read_bytes(part))) for part in parts]
    except FileNotFoundError:
        return None
    if not storage.exists(success) or storage.read_bytes(success) != before:
        return None
    content = json.loads(before)
    runs = [run for table in tables for run in table["run"].to_pylist()]
    assert set(runs) == {content["run"]}
    assert (len(parts), len(runs)) == (content["parts"], content["rows"])
    return str(content["run"])


def kept_runs(output: str, run: str) -> set[str]:
    """Return the runs that are named in the parts of the manifest that was kept of `run`."""
    parts = RunFolder(output).kept_manifests()[run]
    assert len(parts) == 2
    tables = [pq.read_table(pa.BufferReader(storage.read_bytes(part))) for part in parts]
    return {one for table in tables for one in table["run"].to_pylist()}


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int, look: Callable[[], Any]) -> list[Any]:
    """Make the `at`-th change of the storage the last; return what `look` returns before each change."""
    seen: list[Any] = []

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            seen.append(look())
            if len(seen) > at:
                raise KilledError
            return change(*arguments)

        return wrapper

    for name in ("remove", "move", "copy", "write_bytes"):
        monkeypatch.setattr(storage, name, counted(getattr(storage, name)))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    return seen


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else str(request.getfixturevalue("s3_folder"))


def test_readers_see_one_run_whenever_it_is_interrupted_and_the_next_finishes_it(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(output, write_next(output, "0", ["a.parquet", "b.parquet"]))
    assert read(output) == "0"
    number = at = 0
    while True:
        number += 1
        run, before = str(number), str(number - 1)
        ready = write_next(
            output, run, ["b.parquet", "c.parquet"] if number % 2 else ["a.parquet", "b.parquet"]
        )
        with monkeypatch.context() as patch:
            seen = interrupted(patch, at, lambda: read(output))
            try:
                publish(output, ready)
                finished = True
            except KilledError:
                finished = False
        assert set(seen) <= {before, None, run}
        assert read(output) in {before, None, run}
        begun = storage.exists(RunFolder(output).at(publishing.MARKER))
        assert finish_publishing(output) == begun
        if at == 0:  # not even the marker was written: the next run begins with what is published
            assert read(output) == before
            publish(output, ready)
        if begun:
            changes = storage.list_files(f"{output}/changes/{run}.parquet")
            assert [storage.read_bytes(uri) for uri in changes] == [run.encode()] * 2
        assert not begun or json.loads(storage.read_bytes(f"{output}/runs/{run}.json"))["run"] == run
        if begun or finished:
            record = {"previous_manifest_run": before, "rows_in": 2, "state": "complete"}
            assert json.loads(storage.read_bytes(f"{output}/manifests/{run}.json")) == record
            assert [kept_runs(output, one) for one in (before, run)] == [{before}, {run}]
        assert read(output) == run
        assert not storage.list_files(RunFolder(output).at())
        if finished:
            break
        at += 1 if storage.is_local(output) else 3  # a look at a server is slow
    assert at > 8


def test_the_rows_of_the_manifest_are_those_that_the_next_run_begins_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "out")
    assert published_rows(output) == 0
    publish(output, replace(write_next(output, "0", ["a.parquet"]), success=False))  # exit code 3
    assert published_rows(output) == 1
    outcomes = set()
    for at in range(30):
        ready = write_next(output, f"{at + 1}", ["a.parquet", "b.parquet", "c.parquet"][: 1 + at % 3])
        with monkeypatch.context() as patch:
            interrupted(patch, at, lambda: None)
            with suppress(KilledError):
                publish(output, ready)
        expected = published_rows(output)
        finish_publishing(output)
        files = storage.list_files(RunFolder(output).manifest)
        assert expected == sum(pq.read_metadata(file).num_rows for file in files)
        outcomes.add(expected)
        storage.remove(RunFolder(output).at())
    assert outcomes == {1, 2, 3}


def test_success_is_back_before_the_files_of_a_large_run_are_removed(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(output, write_next(output, "0", ["a.parquet"]))
    ready = write_next(output, "1", ["a.parquet", "b.parquet"])
    remove = storage.remove

    def removing(uri: str) -> None:
        if uri.endswith("/journal"):
            assert read(output) == "1"
            raise KilledError
        remove(uri)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "remove", removing)
        with pytest.raises(KilledError):
            publish(output, ready)
    moved: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(storage, "move", lambda uri, to: moved.append(uri))
        assert finish_publishing(output)
    assert (read(output), moved) == ("1", [])
    assert not storage.list_files(RunFolder(output).at())


def test_a_run_that_changes_nothing_leaves_manifest_and_report(tmp_path: Path) -> None:
    output = str(tmp_path)
    publish(output, write_next(output, "0", ["a.parquet"]))
    folder = RunFolder(output)
    storage.write_bytes(folder.at("run.json"), json.dumps({"run": "1"}).encode())
    publish(output, Publication("1", 1, None, None, success=True))
    published = {"_SUCCESS", "manifest/a.parquet", "manifests/0/a.parquet", "report/index.html", "run.json"}
    published |= {"manifests/0.json", "runs/0.json", "runs/1.json"}
    assert set(tree(tmp_path)) - changes_of("0") == published
    assert (tmp_path / "report/index.html").read_text() == "0"
    assert json.loads((tmp_path / "run.json").read_text()) == {"run": "1"}


def test_the_record_of_a_manifest_that_stays_follows_its_success(tmp_path: Path) -> None:
    output = str(tmp_path)
    publish(output, replace(write_next(output, "0", ["a.parquet"]), success=False))
    kept = tmp_path / "manifests" / "0.json"
    for run, success, state in (("1", True, "complete"), ("2", False, "too many failed")):
        record = {"run": run, "manifest_run": "0"}
        storage.write_bytes(RunFolder(output).at("run.json"), json.dumps(record).encode())
        publish(output, Publication(run, 1, None, None, success=success))
        assert json.loads(kept.read_text()) == {"previous_manifest_run": None, "rows_in": 1, "state": state}
        assert (tmp_path / "_SUCCESS").exists() is success


def test_too_many_failures_are_published_without_success(tmp_path: Path) -> None:
    output = str(tmp_path)
    publish(output, write_next(output, "0", ["a.parquet"]))
    ready = write_next(output, "1", ["a.parquet"])
    publish(output, replace(ready, success=False))
    published = {"manifest/a.parquet", "report/index.html", "run.json", "runs/0.json", "runs/1.json"}
    published |= {f"manifests/{name}" for name in ("0/a.parquet", "0.json", "1/a.parquet", "1.json")}
    assert set(tree(tmp_path)) == published | changes_of("0") | changes_of("1")


def test_a_report_that_is_not_made_again_goes(tmp_path: Path) -> None:
    output = str(tmp_path)
    storage.write_bytes(storage.join(output, "report", "fid.json"), b"of another run")
    publish(output, write_next(output, "0", ["a.parquet"]))
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]


def test_there_is_nothing_to_finish_in_an_output_that_is_new(tmp_path: Path) -> None:
    assert not finish_publishing(str(tmp_path))


def test_the_lock_is_checked_right_before_each_step(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that slept in between has lost it, and must not touch what another run has published meanwhile."""
    publish(output, write_next(output, "0", ["a.parquet"]))
    ready = write_next(output, "1", ["b.parquet"])
    events: list[str] = []

    def recorded(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            events.append(f"{name} {str(arguments[0]).removeprefix(output)}")
            return change(*arguments)

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("remove", "move", "copy", "write_bytes"):
            patch.setattr(storage, name, recorded(name, getattr(storage, name)))
        patch.setattr(Path, "rename", recorded("rename", Path.rename))
        publish(output, ready, lambda: events.append("lock"))
    steps = [after for before, after in pairwise(events) if before == "lock"]
    local = storage.is_local(output)
    assert [step for step in steps if step != "lock"] == [
        "write_bytes /.run/publish.json",
        "copy /.run/manifest/b.parquet",
        "write_bytes /manifests/1.json",
        "remove /_SUCCESS",
        "remove /.run/replaced" if local else "move /.run/manifest/b.parquet",
        *([] if local else ["remove /manifest/a.parquet"]),
        "move /.run/report/index.html",
        "move /.run/changes/1.parquet/part-0.parquet",
        "write_bytes /runs/1.json",
        "move /.run/run.json",
        "write_bytes /_SUCCESS",
        *(f"remove /.run/{name}" for name in WORKING),
        "remove /.run",
    ]


def test_a_run_without_the_lock_changes_nothing_more(output: str) -> None:
    publish(output, write_next(output, "0", ["a.parquet"]))
    ready = write_next(output, "slow", ["b.parquet"])
    looks = iter(range(20))

    def confirm() -> None:
        if next(looks) == 3:  # the marker is written, and _SUCCESS is removed
            finish_publishing(output)
            RunFolder(output).begin_attempt()
            publish(output, write_next(output, "other", ["a.parquet", "c.parquet"]))
            raise RunError("lost")

    with pytest.raises(RunError, match="lost"):
        publish(output, ready, confirm)
    assert read(output) == "other"


def test_two_attempts_of_one_number_are_two_layers(tmp_path: Path) -> None:
    """The first had written nothing when the second chose its number; then its last task did."""
    folder = RunFolder(str(tmp_path))
    assert folder.layers().next_attempt("20260102T-b") == "000-20260102T-b"
    storage.write_bytes(f"{folder.journal('000-20260102T-b')}/x.parquet", b"")
    storage.write_bytes(f"{folder.journal('000-20260101T-a')}/x.parquet", b"")
    layers = folder.layers()
    assert [len(parts) for parts in layers.rows] == [0, 1, 1]
    assert "-a/" in layers.rows[1][0]
    assert layers.next_attempt("c") == "001-c"
