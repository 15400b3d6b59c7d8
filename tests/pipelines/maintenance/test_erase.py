from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.output import remove_run
from pipelines.correction.rows import to_table
from pipelines.maintenance.erase import erase, plan_erasure
from pipelines.maintenance.rollback import roll_back
from pipelines.published.erased import read_erased
from pipelines.published.layout import RunFolder
from pipelines.published.parts import parquet_bytes
from pipelines.published.publish import finish_publishing
from pipelines.published.row_keys import id_keys
from pipelines.storage.lock import Lock, locked
from tests.killed import every_change
from tests.nights import contents, images, night, row, rows_of, told

#: Ids whose names on the storage begin alike.
ALIKE = {"a": "of a", "a.b": "of a.b", "a.0123456789abcdef": "of a.0", "A": "of A", "ab": "of ab"}


def two_nights(output: str) -> None:
    night(output, "1", {"person": "first picture", **ALIKE}, {"clean": None})
    night(output, "2", {"person": "second picture", "b": "b"}, {**ALIKE, "clean": None})
    row(output, "person", "of a killed run")


def test_images_of_an_id_go_from_all_nights_and_nothing_else(output: str, lock: Lock) -> None:
    two_nights(output)
    before = rows_of(output)
    storage.write_bytes(f"{output}/images/watermark/person.png", b"before names had a hash")
    plan = plan_erasure(output, ["person"])
    assert (plan.rows, len(plan.images)) == ({"person": 1}, 4)
    assert images(output) >= {"first picture", "second picture", "of a killed run"}
    assert not storage.exists(f"{output}/erased.parquet")

    assert erase(output, ["person", "person"], lock).images == plan.images
    assert images(output) == {*ALIKE.values(), "b"}
    for folder in ([], ["manifests", "1"], ["manifests", "2"]):
        rows = rows_of(output, *folder)
        one = rows["person"]
        assert (one["status"], one["error_code"]) == ("failed", "erased")
        assert "erased on request" in one["error_message"]
        assert [one[name] for name in ("output_uri", "output_sha256", "width", "row_key")] == [None] * 4
        assert one["source_uri"] == "/uploads/person"  # the catalog's
        assert contents(output, *folder)["a"] == "of a"
    after = rows_of(output)
    assert {name for name in before if before[name] != after[name]} == {"person"}
    assert read_erased(output).has(id_keys(["person", "a"])).tolist() == [True, False]
    assert b"person" not in storage.read_bytes(f"{output}/erased.parquet")
    assert not storage.list_files(f"{output}/report")  # it may show the picture


def test_consumers_are_told_and_the_run_counts(output: str, lock: Lock) -> None:
    two_nights(output)
    erase(output, ["person", "a"], lock)
    run = told(output)
    assert (run["manifest_run"], run["maintenance"]) == ("2", {"verb": "erase", "ids": 2})
    assert run["counts"] == {"corrected": 5, "passthrough": 1, "rejected": 0, "failed": 2}
    assert told(output, "_SUCCESS") == {"run": run["run"], "parts": 2, "rows": 8}
    (part,) = storage.list_files(f"{output}/changes/{run['run']}.parquet")
    table = pq.read_table(pa.BufferReader(storage.read_bytes(part)))
    assert table.schema.metadata[b"catalog_repair.previous_run"] == b"2"
    assert [(one["change"], one["image_id"], one["output_uri"]) for one in table.to_pylist()] == [
        ("changed", "a", None),
        ("changed", "person", None),
    ]


def test_no_rollback_and_no_beginning_anew_brings_it_back(output: str, lock: Lock) -> None:
    two_nights(output)
    erase(output, ["person"], lock)
    roll_back(output, "1", lock)
    assert rows_of(output)["person"]["error_code"] == "erased"
    remove_run(output)  # --overwrite
    assert read_erased(output).has(id_keys(["person"])).all()


def test_an_id_that_nobody_knows_is_refused_before_anything_is_erased(output: str, lock: Lock) -> None:
    two_nights(output)
    there = images(output)
    with pytest.raises(
        ConfigurationError, match=r"--image-id 'Person' 'x': no manifest has a row of this id"
    ):
        erase(output, ["person", "Person", "x"], lock)
    assert images(output) == there
    assert not storage.exists(f"{output}/erased.parquet")
    erase(output, ["person"], lock)
    rows = rows_of(output)
    again = erase(output, ["person"], lock)
    assert (again.rows, again.images) == ({"person": 0}, [])
    assert rows_of(output) == rows


def test_an_upload_that_no_night_has_seen_is_erased_on_demand(output: str, lock: Lock) -> None:
    two_nights(output)
    rows = rows_of(output)
    with pytest.raises(ConfigurationError, match=r"--image-id 'of today': .* add --allow-unknown"):
        plan_erasure(output, ["of today", "person"])
    plan = plan_erasure(output, ["of today", "person"], allow_unknown=True)
    assert plan.describe()[-1] == "unknown   'of today': no later night will read them"
    assert not storage.exists(f"{output}/erased.parquet")
    assert erase(output, ["of today"], lock, allow_unknown=True).unknown == ["of today"]
    assert rows_of(output) == rows
    # What the next night goes by: see tests of `inspect.pending`.
    assert read_erased(output).has(id_keys(["of today", "person"])).tolist() == [True, False]
    assert plan_erasure(output, ["of today"]).unknown == []  # given again


@pytest.mark.parametrize(("image_id", "stays"), [("of today", True), ("unfinished", False)])
def test_what_a_killed_run_has_finished_goes_only_if_it_has_one_of_the_ids(
    output: str, lock: Lock, image_id: str, stays: bool
) -> None:
    two_nights(output)
    journal = f"{RunFolder(output).journal('000-3')}/part.parquet"
    storage.write_bytes(journal, parquet_bytes(to_table([row(output, "unfinished", "3")], MANIFEST)))
    erase(output, [image_id], lock, allow_unknown=True)
    assert storage.exists(journal) is stays


def test_an_output_without_success_stays_without(output: str, lock: Lock) -> None:
    night(output, "1", {"person": "1"}, success=False)
    erase(output, ["person"], lock)
    assert not storage.exists(f"{output}/_SUCCESS")
    assert contents(output) == {"person": None}


def test_whatever_ends_it_the_manifest_is_whole_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "out")

    def act() -> None:
        with locked(output) as lock:
            erase(output, ["person"], lock)

    two_nights(output)
    deaths = 0
    for _ in every_change(monkeypatch, act):
        deaths += 1
        finish_publishing(output)
        current = contents(output)  # no image that it names is missing
        assert set(current) == {"person", "b", *ALIKE, "clean"}
        assert storage.exists(f"{output}/_SUCCESS")
        for run in RunFolder(output).kept_manifests():
            contents(output, "manifests", run)
        if storage.exists(f"{output}/erased.parquet"):
            act()
            assert images(output) == {*ALIKE.values(), "b"}
            storage.remove(f"{output}/erased.parquet")
        for name in ("manifest", "manifests", "images"):
            storage.remove(f"{output}/{name}")
        two_nights(output)
    assert deaths > 12
    assert images(output) == {*ALIKE.values(), "b"}
