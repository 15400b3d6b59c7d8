import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError, RunError
from pipelines import storage
from pipelines.maintenance.erase import erase
from pipelines.maintenance.rollback import plan_rollback, roll_back
from pipelines.published.layout import RunFolder
from pipelines.published.publish import Publication, finish_publishing, publish
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
    """Also if the records of runs are gone: a lifecycle rule may remove old ones."""
    night(output, "1", *FIRST)
    night(output, "2", *SECOND)
    storage.remove(f"{output}/runs")
    storage.remove(storage.list_files(f"{output}/manifests/1", ".parquet")[0])
    complaint = r"the manifest of 1 has 1 rows of 3: a part of it is gone; nothing was changed"
    assert re.match(f"refused    {complaint}", plan_rollback(output, "1").describe()[-1])
    with pytest.raises(RunError, match=complaint):
        roll_back(output, "1", lock)
    assert contents(output) == {"a": "a2", "b": None, "d": "d1"}


def test_a_manifest_that_was_kept_without_a_record_needs_that_of_its_run(output: str, lock: Lock) -> None:
    """Earlier releases kept none."""
    night(output, "1", *FIRST, success=False)
    night(output, "2", *SECOND)
    for run in "12":
        storage.remove(f"{output}/manifests/{run}.json")
    record = f"{output}/runs/1.json"
    storage.remove(record)
    with pytest.raises(
        RunError, match=r"neither manifests/1.json nor runs/1.json says it; nothing was changed"
    ):
        roll_back(output, "1", lock)
    assert contents(output) == {"a": "a2", "b": None, "d": "d1"}
    storage.write_bytes(record, json.dumps({"run": "1", "rows_in": 3, "state": "too many failed"}).encode())
    with pytest.raises(ConfigurationError, match=r"before that of 2 is not known: give --to, one of 1$"):
        roll_back(output, None, lock)
    roll_back(output, "1", lock)
    assert contents(output) == {"a": "a1", "b": None, "c": "c1"}
    assert not storage.exists(f"{output}/_SUCCESS")


def test_a_published_manifest_that_lacks_a_part_is_published_again(output: str, lock: Lock) -> None:
    night(output, "1", *FIRST)
    night(output, "2", *SECOND)
    whole = rows_of(output)
    roll_back(output, "2", lock)
    assert told(output)["run"] == "2"  # nothing was to be done
    storage.remove(storage.list_files(f"{output}/manifest", ".parquet")[0])
    roll_back(output, "2", lock)
    assert rows_of(output) == whole
    run = told(output)
    assert (run["manifest_run"], run["changes"]["added"]) == ("2", 3)
    assert told(output, "_SUCCESS") == {"run": run["run"], "parts": 2, "rows": 3}
    # That was no return: the night before is still the one before.
    assert plan_rollback(output, None).to == "1"
    erase(output, ["a"], lock)  # writes parts of both again
    erased = told(output)["run"]
    roll_back(output, "2", lock)
    assert told(output)["run"] == erased


def test_a_night_that_was_left_is_not_the_one_before(output: str, lock: Lock) -> None:
    for run in ("1", "2", "3"):
        night(output, run, {"a": run})
    roll_back(output, None, lock)
    night(output, "4", {"a": "4"})
    storage.remove(f"{output}/runs")
    assert roll_back(output, None, lock).to == "2"
    assert contents(output) == {"a": "2"}
    night(output, "5", {"a": "5"})
    storage.remove(f"{output}/manifests/2")
    with pytest.raises(
        ConfigurationError, match=r"that of 2, which is not kept any more: give --to, one of 1, 3, 4$"
    ):
        roll_back(output, None, lock)
    assert contents(output) == {"a": "5"}


def test_an_earlier_run_is_named_or_is_the_one_before(output: str, lock: Lock) -> None:
    for run in ("1", "2", "3"):
        night(output, run, {"a": run})
    with pytest.raises(ConfigurationError, match=r"--to 4: no such manifest is kept; there are 1, 2$"):
        plan_rollback(output, "4")
    roll_back(output, "3", lock)  # as it is
    assert told(output)["run"] == "3"
    assert roll_back(output, None, lock).to == "2"
    assert roll_back(output, None, lock).to == "1"
    with pytest.raises(ConfigurationError, match="before that of 1 is not known: give --to, one of 2, 3"):
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
    complaint = "1 images that the manifest of 1 names are gone; nothing was changed"
    assert plan_rollback(output, "1").describe()[-1].startswith(f"refused    {complaint}")
    with pytest.raises(RunError, match=complaint):
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
        if found == old:
            night(output, "2", *SECOND)
    assert set(seen) == {True, False}
    assert contents(output) == old


def locked_rollback(output: str) -> None:
    """Go back by one night as the job does."""
    with locked(output) as lock:
        done = roll_back(output, None, lock)
    assert (done.current, done.to) == ("2", "1")
