"""The benchmark of scale: its catalogs are catalogs, and its slopes are slopes."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.correction.catalog import list_catalog, read_small_rows
from pipelines.storage.parquet_units import joined
from tests.benchmarks import scale
from tests.benchmarks.scale import draw, slopes


@pytest.mark.parametrize("images", [False, True])
def test_drawn_rows_are_a_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: bool) -> None:
    monkeypatch.setattr(scale, "FILE_ROWS", 20)
    draw(tmp_path / "catalog", 50, images)
    listing = list_catalog([str(tmp_path / "catalog")], fetches=True)
    rows = [row for unit in joined(listing.units) for row in read_small_rows(unit)]
    assert (len(rows), len({row.image_id for row in rows})) == (50, 50)
    assert {bool(row.sha256) for row in rows} == {not images}


def figures(rows: int) -> dict[str, Any]:
    """Return what `measure` returns for a run of 10 s, and 2 ms, 1 ms of the driver and a kilobyte for each row."""
    correct = {
        "seconds": 10 + rows / 500,
        "driver_core_seconds": rows / 1000,
        "driver_peak_mb": 500 + rows / 1024,
    }
    first = {
        "seconds": 20 + rows / 500,
        "blocks": rows // 250,
        "worker_peak_mb": 9.0,
        "stages": {"correct": correct},
    }
    return {"rows": rows, "first": first, "again": {"seconds": 5 + rows / 1e5, "stages": {}}}


def test_slopes_leave_out_what_does_not_grow() -> None:
    found = slopes(figures(1000), figures(5000))
    assert found["correct, µs"] == found["whole run, µs"] == 2000
    assert found["correct, µs of the driver"] == 1000
    assert found["correct, bytes of the driver"] == 1024
    assert (found["rows per block"], found["ms of the driver per block"]) == (250, 250)
    assert (found["nothing to do, µs"], found["largest worker, bytes"], found["inspect, µs"]) == (10, 0, 0)
