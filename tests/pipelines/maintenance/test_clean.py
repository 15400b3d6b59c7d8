from collections.abc import Callable
from pathlib import Path

import pytest

from model.errors import ConfigurationError, RunError
from pipelines import storage
from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.rows import to_table
from pipelines.maintenance import run as maintenance_run
from pipelines.maintenance.clean import clean, plan_clean
from pipelines.maintenance.rollback import roll_back
from pipelines.published.layout import RunFolder
from pipelines.published.object_names import IMAGES
from pipelines.published.parts import parquet_bytes
from pipelines.storage import pages
from pipelines.storage.lock import Lock, locked
from tests.killed import every_change
from tests.nights import contents, images, night, prepare, row, rows_of, told


def four_nights(output: str) -> None:
    """Publish four nights: of image `a` a new one each, of `same` one for all; and leave two orphans."""
    for run in "1234":
        night(output, run, {"a": f"a{run}", "same": "same"}, {f"only {run}": run, "clean": None})
    row(output, "a", "of a killed run")
    row(output, "gone", "of another one")


def test_superseded_images_and_orphans_go_and_what_is_kept_stays(
    output: str, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE", 3)
    four_nights(output)
    there = images(output)
    plan = plan_clean(output, 2)
    assert (plan.kept, plan.removed) == (["3", "4"], ["1", "2"])
    assert (plan.images, plan.left) == (6, 5)
    gone = {"a1", "1", "a2", "2", "of a killed run", "of another one"}
    assert plan.image_bytes == sum(map(len, gone))
    assert plan.manifest_bytes > 0
    assert images(output) == there  # only counted
    assert clean(output, 2, lock) == plan
    assert images(output) == there - gone
    assert list(RunFolder(output).kept_manifests()) == ["3", "4"]
    files = storage.list_files(f"{output}/manifests")
    assert sorted(file.removeprefix(f"{output}/manifests/") for file in files) == [
        *("3.json", "3/part-3-0.parquet", "3/part-3-1.parquet"),
        *("4.json", "4/part-4-0.parquet", "4/part-4-1.parquet"),
    ]
    assert contents(output) == {"a": "a4", "same": "same", "only 4": "4", "clean": None}
    assert contents(output, "manifests", "3") == {"a": "a3", "same": "same", "only 3": "3", "clean": None}
    assert told(output, "_SUCCESS")["run"] == told(output)["run"] == "4"
    again = clean(output, 2, lock)
    assert (again.images, again.removed, again.left) == (0, [], 5)


def test_the_current_manifest_stays_whichever_it_is(output: str, lock: Lock) -> None:
    four_nights(output)
    roll_back(output, "2", lock)
    done = clean(output, 1, lock)
    assert (done.kept, done.removed) == (["2", "4"], ["1", "3"])
    assert contents(output) == contents(output, "manifests", "2")
    assert contents(output)["a"] == "a2"
    assert contents(output, "manifests", "4")["a"] == "a4"


def test_what_rollback_returns_to_stays_although_a_night_that_was_left_is_later(
    output: str, lock: Lock
) -> None:
    four_nights(output)
    roll_back(output, "2", lock)  # from a bad night
    night(output, "5", {"a": "a5"})
    assert clean(output, 2, lock).kept == ["2", "4", "5"]
    assert roll_back(output, None, lock).to == "2"


def test_an_image_that_the_current_manifest_names_stays_even_if_no_kept_one_does(
    output: str, lock: Lock
) -> None:
    four_nights(output)
    storage.remove(f"{output}/manifests")
    storage.remove(f"{output}/run.json")
    clean(output, 1, lock)
    assert images(output) == {"a4", "same", "4"}
    assert contents(output)["a"] == "a4"


def test_what_a_killed_run_has_finished_stays(output: str, lock: Lock) -> None:
    night(output, "1", {"a": "a1"})
    finished = [row(output, "a", "a2"), row(output, "b", "b2")]
    storage.write_bytes(
        f"{RunFolder(output).journal('000-2')}/part.parquet", parquet_bytes(to_table(finished, MANIFEST))
    )
    row(output, "c", "in no journal")
    assert clean(output, 1, lock).images == 1
    assert images(output) == {"a1", "a2", "b2"}
    assert len(RunFolder(output).layers().rows) == 2


def test_a_publication_that_was_begun_is_counted_and_completed(output: str, lock: Lock) -> None:
    night(output, "1", {"a": "a1"})
    ready = prepare(output, "2", {"a": "a2"})
    with pytest.raises(RunError):
        maintenance_run.publish(output, ready, _dies_after_the_marker(output))
    assert plan_clean(output, 1).images == 0
    done = clean(output, 1, lock)
    assert (done.kept, done.images) == (["2"], 1)
    assert contents(output) == {"a": "a2"}
    assert images(output) == {"a2"}


def _dies_after_the_marker(output: str) -> Callable[[], None]:
    def confirm() -> None:
        if storage.exists(RunFolder(output).at("publish.json")):
            raise RunError("killed")

    return confirm


def test_files_that_no_run_has_written_stay(output: str, lock: Lock) -> None:
    night(output, "1", {"a": "a1"})
    night(output, "2", {"a": "a2"})
    others = [
        f"{output}/{IMAGES}/{name}" for name in ("mine.jpg", "watermark/mine.jpg", "deep/in/a.0123.jpg")
    ]
    for uri in others:
        storage.write_bytes(uri, b"mine")
    assert clean(output, 1, lock).images == 1
    assert all(storage.exists(uri) for uri in others)


def test_files_that_a_killed_process_was_writing_go(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    night(output, "1", {"a": "a1"})
    unfinished = [
        f"{output}/{folder}/.{'0f' * 16}.part" for folder in ("runs", "manifests/1", "images/watermark")
    ]
    for uri in unfinished:
        storage.write_bytes(uri, b"half")
    with locked(output) as lock:
        clean(output, 1, lock)
    assert not [uri for uri in unfinished if storage.exists(uri)]
    assert contents(output) == {"a": "a1"}


def test_nothing_is_cleaned_where_no_manifest_is(output: str, lock: Lock) -> None:
    """Without one, every image would be superfluous."""
    night(output, "1", {"a": "a1"})
    storage.remove(f"{output}/manifest")
    with pytest.raises(ConfigurationError, match="no manifest is published there"):
        clean(output, 1, lock)
    assert images(output) == {"a1"}


def test_an_output_that_was_moved_keeps_its_images(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    night(output, "1", {"a": "a1"})
    moved = str(tmp_path / "moved")
    Path(output).rename(moved)
    assert plan_clean(moved, 1).images == 0


def test_a_lost_lock_ends_it_before_anything_more_goes(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    four_nights(output)
    there = images(output)
    with locked(output) as lock:
        storage.remove(f"{output}/.lock")
        with pytest.raises(RunError, match=r"the lock .* was lost"):
            clean(output, 1, lock)
    assert images(output) == there
    assert list(RunFolder(output).kept_manifests()) == ["1", "2", "3", "4"]


def test_whatever_ends_it_what_is_kept_is_whole_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "out")
    four_nights(output)
    current = contents(output)

    def act() -> None:
        with locked(output) as lock:
            clean(output, 2, lock)

    deaths = 0
    for _ in every_change(monkeypatch, act):
        deaths += 1
        assert contents(output) == current
        for run in RunFolder(output).kept_manifests():
            parts = len(storage.list_files(RunFolder(output).kept(run)))
            assert parts == 2 or run in "12"
            if parts == 2:
                assert contents(output, "manifests", run)["a"] == f"a{run}"
        for run in "123":  # as it was
            night(output, run, {"a": f"a{run}", "same": "same"}, {f"only {run}": run, "clean": None})
        night(output, "4", {"a": "a4", "same": "same"}, {"only 4": "4", "clean": None})
    assert deaths > 8
    assert images(output) == {"a3", "3", "a4", "4", "same"}
    assert {rows["a"]["image_id"] for rows in (rows_of(output), rows_of(output, "manifests", "3"))} == {"a"}
    assert not [file for page in pages.pages(f"{output}/{IMAGES}", "watermark/gone") for file in page]
