import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError, RunError
from pipelines.maintenance.rollback import plan_rollback, roll_back
from pipelines.published.layout import RunFolder
from pipelines.published.publish import Publication, finish_publishing, publish
from pipelines.storage import objects as storage
from pipelines.storage.lock import Lock, locked
from tests.killed import every_change
from tests.nights import contents, images, night, prepare, rows_of, told

FIRST = ({"a": "a1", "b": None}, {"c": "c1"})
SECOND = ({"a": "a2", "b": None}, {"d": "d1"})


def test_an_earlier_manifest_is_the_current_one_again_with_its_images(output: str, lock: Lock) -> None:
    night(output, "1", *FIRST)
    before = rows_of(output)
    night(output, "2", *SECOND)
    assert contents(output) == {"a": "a2", "b": None, "d": "d1"}
    done = roll_back(output, None, lock)
    assert (done.current, done.to, done.missing) == ("2", "1", 0)
    assert rows_of(output) == before
    assert contents(output) == {"a": "a1", "b": None, "c": "c1"}
    run = told(output)
    assert (run["manifest_run"], run["state"], run["rows_in"]) == ("1", "complete", 3)
    assert run["counts"] == {"corrected": 2, "passthrough": 1, "rejected": 0, "failed": 0}
    assert run["maintenance"] == {"verb": "rollback", "from": "2", "to": "1"}
    assert told(output, f"runs/{run['run']}.json") == run
    assert told(output, "_SUCCESS") == {"run": run["run"], "parts": 2, "rows": 3}
    assert not storage.list_files(RunFolder(output).at())
    # Nothing was lost: the later manifest is still kept, and is the current one again.
    assert contents(output, "manifests", "2") == {"a": "a2", "b": None, "d": "d1"}
    roll_back(output, "2", lock)
    assert contents(output) == {"a": "a2", "b": None, "d": "d1"}
    assert list(RunFolder(output).kept_manifests()) == ["1", "2"]


def test_consumers_begin_anew_with_the_changes(
    output: str, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    night(output, "1", *FIRST)
    for most, files in ((200_000, 1), (2, 2)):
        night(output, "2", *SECOND)
        monkeypatch.setattr("pipelines.published.changes.PART_ROWS", most)
        roll_back(output, "1", lock)
        run = told(output)
        parts = storage.list_files(f"{output}/changes/{run['run']}.parquet")
        assert len(parts) == files
        tables = [pq.read_table(pa.BufferReader(storage.read_bytes(part))) for part in parts]
        for table in tables:
            metadata = table.schema.metadata
            assert metadata[b"catalog_repair.run"].decode() == run["run"]
            assert metadata[b"catalog_repair.previous_run"] == b""
        changed = [one for table in tables for one in table.to_pylist()]
        assert run["changes"] == {"added": 3, "changed": 0, "removed": 0}
        assert {one.pop("change") for one in changed} == {"added"}
        manifest = rows_of(output)
        assert {one["image_id"]: one for one in changed} == {
            name: {column: one[column] for column in changed[0]} for name, one in manifest.items()
        }


def test_a_manifest_that_lacks_a_part_is_refused(output: str, lock: Lock) -> None:
    night(output, "1", *FIRST)
    record = f"{output}/runs/1.json"
    storage.write_bytes(record, json.dumps({**told(output, "runs/1.json"), "rows_in": 3}).encode())
    night(output, "2", *SECOND)
    storage.remove(storage.list_files(f"{output}/manifests/1", ".parquet")[0])
    with pytest.raises(RunError, match=r"has [12] rows of 3: a part of it is gone; nothing was changed"):
        roll_back(output, "1", lock)
    assert contents(output) == {"a": "a2", "b": None, "d": "d1"}


def test_an_earlier_run_is_named_or_is_the_one_before(output: str, lock: Lock) -> None:
    for run in ("1", "2", "3"):
        night(output, run, {"a": run})
    with pytest.raises(ConfigurationError, match=r"--to 4: no such manifest is kept; there are 1, 2$"):
        plan_rollback(output, "4")
    roll_back(output, "3", lock)  # as it is
    assert told(output)["run"] == "3"
    assert roll_back(output, None, lock).to == "2"
    assert roll_back(output, None, lock).to == "1"
    with pytest.raises(ConfigurationError, match="no manifest from before 1 is kept; others that are: 2, 3"):
        roll_back(output, None, lock)
    # A run that changes nothing has no manifest of its own.
    storage.write_bytes(
        RunFolder(output).at("run.json"), json.dumps({"run": "4", "manifest_run": "1"}).encode()
    )
    publish(output, Publication("4", 1, None, None, success=True))
    assert plan_rollback(output, "3").current == "1"
    assert contents(output) == {"a": "1"}
    storage.remove(f"{output}/run.json")
    with pytest.raises(ConfigurationError, match="give --to, one of 1, 2, 3"):
        plan_rollback(output, None)
    assert roll_back(output, "3", lock).current is None
    assert contents(output) == {"a": "3"}


def test_a_manifest_without_success_has_none_again(output: str, lock: Lock) -> None:
    night(output, "1", {"a": "1"}, success=False)
    night(output, "2", {"a": "2"})
    roll_back(output, None, lock)
    assert contents(output) == {"a": "1"}
    assert not storage.exists(f"{output}/_SUCCESS")
    assert told(output)["state"] == "too many failed"
    roll_back(output, "2", lock)
    assert storage.exists(f"{output}/_SUCCESS")


def test_a_manifest_whose_images_are_gone_is_refused(output: str, lock: Lock) -> None:
    night(output, "1", {"a": "1", "b": "1"})
    night(output, "2", {"a": "2", "b": "2"})
    storage.remove(rows_of(output, "manifests", "1")["a"]["output_uri"])
    assert plan_rollback(output, "1").missing == 1
    assert "missing    1 of its images: it will be refused" in plan_rollback(output, "1").describe()
    with pytest.raises(RunError, match="1 images that the manifest of 1 names are gone; nothing was changed"):
        roll_back(output, "1", lock)
    assert contents(output) == {"a": "2", "b": "2"}
    assert storage.exists(f"{output}/_SUCCESS")


def test_a_run_that_was_killed_while_it_published_is_completed_first(output: str, lock: Lock) -> None:
    night(output, "1", {"a": "1"})
    ready = prepare(output, "2", {"a": "2"})

    def killed() -> None:
        if storage.exists(RunFolder(output).at("publish.json")):
            raise RunError("killed")

    with pytest.raises(RunError, match="killed"):
        publish(output, ready, killed)
    assert roll_back(output, None, lock).current == "2"
    assert contents(output) == {"a": "1"}
    assert contents(output, "manifests", "2") == {"a": "2"}


def test_whatever_ends_it_the_manifest_is_one_of_the_two_and_the_next_run_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "out")
    old, new = {"a": "a1", "b": None, "c": "c1"}, {"a": "a2", "b": None, "d": "d1"}
    seen = []
    for run, parts in (("0", FIRST), ("1", FIRST), ("2", SECOND)):  # another step back would be possible
        night(output, run, *parts)
    for made in every_change(monkeypatch, lambda: locked_rollback(output)):
        if len(made) % 2:  # the same command, or the next night
            locked_rollback(output)
            assert contents(output) == old
        finish_publishing(output)
        found = contents(output)
        assert found == (old if told(output)["manifest_run"] == "1" else new), made[-1:]
        assert found in (old, new)
        assert images(output) == {"a1", "c1", "a2", "d1"}
        assert storage.exists(f"{output}/_SUCCESS")
        seen.append(found == old)
        night(output, "2", *SECOND)
    assert set(seen) == {True, False}
    assert contents(output) == old


def locked_rollback(output: str) -> None:
    """Go back by one night as the job does."""
    with locked(output) as lock:
        done = roll_back(output, None, lock)
    assert (done.current, done.to) == ("2", "1")
