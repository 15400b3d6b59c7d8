"""OUTPUT/changes: applied to the last manifest, a run's changes give the next one."""

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import RunError
from pipelines.contracts.schemas import CHANGES, MANIFEST
from pipelines.correction.rows import to_table
from pipelines.published import changes
from pipelines.published.changes import Changes, join, set_aside, write_changes
from pipelines.published.key_shards import here
from tests.manifests import key

NIGHT = datetime(2026, 11, 30, 2, tzinfo=timezone.utc)
SHOWN = tuple(name for name in CHANGES.names if name != "change")


def row(name: str, **values: Any) -> dict[str, Any]:
    return {"image_id": name, "status": "corrected", "row_key": key(name), "corrected_at": NIGHT, **values}


def kinds(new: list[dict[str, Any]], gone: list[dict[str, Any]]) -> list[tuple[str, str]]:
    found = join(to_table(new, MANIFEST), to_table(gone, MANIFEST))
    assert found.schema == CHANGES
    return [(one["image_id"], one["change"]) for one in found.to_pylist()]


def test_rows_are_added_changed_or_removed() -> None:
    new = [row("b", status="failed"), row("c"), row("d", defects=["watermark"])]
    gone = [row("a"), row("b"), row("d", defects=["watermark", "wrong_angle"])]
    assert kinds(new, gone) == [("a", "removed"), ("b", "changed"), ("c", "added"), ("d", "changed")]
    found = join(to_table(new, MANIFEST), to_table(gone, MANIFEST)).to_pylist()
    assert [(one["status"], one["defects"]) for one in found] == [
        ("corrected", None),
        ("failed", None),
        ("corrected", None),
        ("corrected", ["watermark"]),
    ]


def test_a_row_that_was_made_again_alike_has_not_changed() -> None:
    """Such as an image that failed again; what is for the next run alone does not count."""
    values = {"defects": ["watermark"], "profile_issues": None, "width": 3, "error_message": None}
    later = row("a", **values, row_key=key("other"), input_version="v2") | {
        "corrected_at": NIGHT + timedelta(1)
    }
    assert kinds([later], [row("a", **values)]) == []
    assert kinds([later | {"width": None}], [row("a", **values)]) == [("a", "changed")]
    assert kinds([later | {"profile_issues": []}], [row("a", **values)]) == [("a", "changed")]


def test_rows_of_one_id_that_become_fewer_are_no_removal() -> None:
    assert kinds([row("a")], [row("a"), row("a")]) == []
    assert kinds([row("a", width=1)] * 2, [row("a")]) == [("a", "changed")] * 2


IDS = st.dictionaries(st.text("abcé", min_size=1, max_size=2), st.integers(0, 2), max_size=8)


@given(IDS, IDS, st.integers(1, 4))
def test_applied_to_the_last_manifest_they_give_the_next_one(
    tmp_path_factory: pytest.TempPathFactory, last: dict[str, int], following: dict[str, int], part_rows: int
) -> None:
    """Whatever was set aside of the rows that are equal in both, and in however many parts."""
    folder = tmp_path_factory.mktemp("changes")
    old, new = ({name: row(name, width=width) for name, width in side.items()} for side in (last, following))
    count = 0
    for number, name in enumerate(sorted({*old, *new})):  # a source each
        sides = [to_table([side[name]] if name in side else [], MANIFEST) for side in (new, old)]
        count += set_aside(*sides, str(folder / "aside"), f"{number}.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "PART_ROWS", part_rows)
        patch.setattr(changes, "in_task", here)
        written = write_changes(count, str(folder / "aside"), str(folder / "next"), "2", "1")
    assert len(written.files) == max(1, -(-count // part_rows))
    found = [one for file in written.files for one in pq.read_table(folder / "next" / file).to_pylist()]
    applied = {name: {shown: values.get(shown) for shown in SHOWN} for name, values in old.items()}
    for one in found:
        kind = one.pop("change")
        if kind == "removed":
            assert applied.pop(one["image_id"]) == one
        else:
            assert (one["image_id"] in applied) == (kind == "changed")
            applied[one["image_id"]] = one
    assert applied == {name: {shown: values.get(shown) for shown in SHOWN} for name, values in new.items()}
    assert sum(written.counts.values()) == len(found)


def test_a_file_names_its_run_and_the_one_before(tmp_path: Path) -> None:
    empty = MANIFEST.empty_table()
    assert set_aside(empty, empty, str(tmp_path / "aside"), "a.parquet") == 0
    written = write_changes(0, str(tmp_path / "aside"), str(tmp_path / "next"), "20261130T020000Z-a", "")
    assert written == Changes(["20261130T020000Z-a.parquet"])
    found = pq.read_table(tmp_path / "next" / "20261130T020000Z-a.parquet")
    assert found.num_rows == 0
    assert found.schema.metadata == {
        b"catalog_repair.manifest_version": b"1",
        b"catalog_repair.run": b"20261130T020000Z-a",
        b"catalog_repair.previous_run": b"",
    }


def test_rows_that_were_set_aside_and_are_gone_end_the_run(tmp_path: Path) -> None:
    count = set_aside(
        to_table([row("a")], MANIFEST), MANIFEST.empty_table(), str(tmp_path / "aside"), "a.parquet"
    )
    (tmp_path / "aside" / "new" / "a.parquet").unlink()
    with pytest.raises(RunError, match="nothing was published"):
        write_changes(count, str(tmp_path / "aside"), str(tmp_path / "next"), "1", "")


def test_shards_read_only_their_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_ROW_GROUP", 4)
    rows = to_table([row(f"i{number}") for number in range(64)], MANIFEST)
    set_aside(rows, MANIFEST.empty_table(), str(tmp_path), "a.parquet")
    metadata = pq.read_metadata(tmp_path / "new" / "a.parquet")
    column = metadata.schema.names.index("bucket")
    spans = [
        (statistics.min, statistics.max)
        for group in range(metadata.num_row_groups)
        if (statistics := metadata.row_group(group).column(column).statistics)
    ]
    assert len(spans) == 16
    assert spans == sorted(spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
