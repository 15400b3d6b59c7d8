"""Metrics without Ray; tests/end_to_end/test_job_submit.py looks at Ray's endpoint."""

import pytest

from pipelines.cluster import metrics
from tests.reported import Reported


def test_counting_nothing_is_allowed_but_ray_is_not_asked(reported: Reported) -> None:
    metrics.count("read_bytes", 0)
    assert reported.values == {}
    metrics.count("read_bytes", 3)
    metrics.count("read_bytes", 2.5)
    assert reported.values == {("read_bytes",): 5.5}


def test_a_started_counter_is_exact(reported: Reported) -> None:
    metrics.start("images", status="failed", defect="watermark")
    assert reported.values[("images", "failed", "watermark")] < 1e-300
    metrics.count("images", 1, status="failed", defect="watermark")
    assert reported.values == {("images", "failed", "watermark"): 1.0}


def test_a_name_that_is_not_in_the_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        metrics.count("imagse", 1)


def test_without_ray_nothing_happens() -> None:
    metrics.count("errors", 1, code="corrupt")
    metrics.put("pending_images", 3)


def test_counters_and_gauges_have_names_of_their_kind() -> None:
    """Ray appends `_total` to counters; a unit comes before that, as Prometheus's naming asks."""
    for name, definition in metrics.METRICS.items():
        assert not name.endswith("_total")
        if definition.unit in ("bytes", "seconds"):
            assert name.endswith(f"_{definition.unit}")
