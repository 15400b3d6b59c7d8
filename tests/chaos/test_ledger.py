"""Tests that the ledger detects every kind of discrepancy: each of them is put into an output without any."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.contracts.schemas import CHANGES, MANIFEST
from pipelines.correction.rows import to_table
from tests.chaos.catalog import DrawnRow
from tests.chaos.ledger import Content, Entry, as_json, audit, table
from tests.hostile_images import drawing, encode

DRAWN = [DrawnRow({"image_id": name}, "corrected") for name in ("a", "b")]
DRAWN.append(DrawnRow({"image_id": "bad"}, "failed", "truncated"))


def write_output(output: Path) -> Path:
    """Write an output as a run over DRAWN leaves it."""
    for name in "ab":
        path = output / "images" / "watermark" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(drawing(20 + ord(name), 40)))
    rows = [
        {
            "image_id": name,
            "status": "corrected",
            "output_uri": str(output / "images" / "watermark" / f"{name}.jpg"),
            "output_sha256": hashlib.sha256(
                (output / "images" / "watermark" / f"{name}.jpg").read_bytes()
            ).hexdigest(),
        }
        for name in "ab"
    ]
    rows.append({"image_id": "bad", "status": "failed", "error_code": "truncated"})
    write_manifest(output, rows)
    said = {"state": "complete", "rows_in": 3, "run": "1", "manifest_run": "1"}
    (output / "run.json").write_text(json.dumps(said))
    (output / "runs").mkdir()
    (output / "runs" / "1.json").write_text(json.dumps({"state": "complete", "run": "1"}))
    write_changes(output, {**rows[0], "change": "added"}, {"image_id": "left", "change": "removed"})
    (output / "_SUCCESS").touch()
    return output


def write_manifest(output: Path, rows: list[dict[str, Any]]) -> None:
    for name in ("manifest", "manifests/1"):
        (output / name).mkdir(exist_ok=True, parents=True)
        pq.write_table(to_table(rows, MANIFEST), output / name / "part-0.parquet")


def keep_earlier(output: Path, image: Path, sha256: str) -> None:
    """Write the manifest of an earlier run, which names one image."""
    row = {"image_id": "a", "status": "corrected", "output_uri": str(image), "output_sha256": sha256}
    (output / "manifests" / "0").mkdir()
    pq.write_table(to_table([row], MANIFEST), output / "manifests" / "0" / "part-0.parquet")


def write_changes(output: Path, *rows: dict[str, Any]) -> None:
    (output / "changes").mkdir(exist_ok=True)
    pq.write_table(to_table(rows, CHANGES), output / "changes" / "1.parquet")


def change_rows(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], Any]:
    def apply(output: Path) -> None:
        rows = pq.read_table(output / "manifest" / "part-0.parquet").to_pylist()
        change(rows)
        write_manifest(output, rows)

    return apply


def audited(output: Path, undisturbed: Content | None = None) -> tuple[Entry, Content]:
    entry = Entry("test")
    return entry, audit(entry, DRAWN, str(output.parent), str(output), undisturbed)


DISCREPANCIES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a row twice": ("duplicates", change_rows(lambda rows: rows.append(rows[0]))),
    "a row lost": ("lost", change_rows(lambda rows: rows.pop())),
    "another code": ("wrong", change_rows(lambda rows: rows[2].update(error_code="corrupt"))),
    "another status": ("wrong", change_rows(lambda rows: rows[2].update(status="passthrough"))),
    "another width": ("different", change_rows(lambda rows: rows[0].update(width=5))),
    "a file lost": ("bad_files", lambda output: (output / "images/watermark/a.jpg").unlink()),
    "half a file": (
        "bad_files",
        lambda output: (output / "images/watermark/a.jpg").write_bytes(encode(drawing())[:400]),
    ),
    "another's file": (
        "bad_files",
        lambda output: (output / "images/watermark/a.jpg").write_bytes(encode(drawing(33, 44))),
    ),
    "an orphan": ("orphans", lambda output: (output / "images/watermark/c.jpg").touch()),
    "half a write": ("leftovers", lambda output: (output / "images/watermark/.1f.part").touch()),
    "a lock": ("leftovers", lambda output: (output / "lock.json").touch()),
    "no marker": ("complaints", lambda output: (output / "_SUCCESS").unlink()),
    "a run that goes on": (
        "complaints",
        lambda output: (output / "run.json").write_text(
            '{"state": "running", "rows_in": 3, "run": "1", "manifest_run": "1"}'
        ),
    ),
    "a record that was not completed": (
        "complaints",
        lambda output: (output / "runs" / "0.json").write_text('{"state": "running", "run": "0"}'),
    ),
    "a manifest that is not kept": (
        "complaints",
        lambda output: (output / "manifests/1/part-0.parquet").unlink(),
    ),
    "an earlier manifest whose image is gone": (
        "bad_files",
        lambda output: keep_earlier(output, output / "images/watermark/gone.jpg", ""),
    ),
    "an earlier manifest whose image is another one now": (
        "bad_files",
        lambda output: keep_earlier(output, output / "images/watermark/a.jpg", "0" * 64),
    ),
    "no changes": ("complaints", lambda output: (output / "changes" / "1.parquet").unlink()),
    "a change that is not in the manifest": (
        "complaints",
        lambda output: write_changes(output, {"image_id": "a", "status": "passthrough", "change": "changed"}),
    ),
    "a removal of a row that is there": (
        "complaints",
        lambda output: write_changes(output, {"image_id": "a", "change": "removed"}),
    ),
}


@pytest.mark.parametrize("name", DISCREPANCIES)
def test_a_discrepancy_is_detected_and_counted(name: str, tmp_path: Path) -> None:
    column, spoil = DISCREPANCIES[name]
    _, undisturbed = audited(write_output(tmp_path / "undisturbed"))
    output = write_output(tmp_path / "output")
    spoil(output)
    entry, _ = audited(output, undisturbed)
    assert not entry.clean
    assert getattr(entry, column)


def test_equal_outputs_in_two_folders_have_no_discrepancy(tmp_path: Path) -> None:
    first, undisturbed = audited(write_output(tmp_path / "undisturbed"))
    second, _ = audited(write_output(tmp_path / "output"), undisturbed)
    assert first.clean
    assert second.clean
    assert replace(first, seconds=0) == replace(second, seconds=0)
    assert second.files == 2
    assert second.statuses == {"corrected": 2, "passthrough": 0, "rejected": 0, "failed": 1}
    assert table([first, second]).splitlines()[-1].split()[:3] == ["total", "6", "4"]
    assert [one["clean"] for one in json.loads(as_json([first, second]))] == [True, True]
