"""A correction's metrics say what its totals say."""

import itertools

import pytest

from pipelines.contracts.error_codes import FAILED, REJECTED
from pipelines.contracts.schemas import STATUSES
from pipelines.correction import metrics
from pipelines.correction.inspect.image_check import ImageCheck
from pipelines.correction.inspect.survey import CLEAN
from pipelines.correction.stream.totals import Totals, summarise
from tests.reported import Reported


def rows(*statuses: str) -> list[dict[str, str | None]]:
    codes = {"failed": "corrupt", "rejected": "product_lost"}
    return [
        {"image_id": f"i{number}", "status": status, "error_code": codes.get(status), "error_message": "m"}
        for number, status in enumerate(statuses)
    ]


def test_blocks_add_up_to_the_totals(reported: Reported) -> None:
    metrics.start(["watermark"])
    totals = Totals()
    blocks = [
        (["watermark"] * 3, rows("corrected", "failed", "rejected"), 4),
        (["watermark", CLEAN], rows("corrected", "passthrough"), 0),
    ]
    for routes, manifest, pending in blocks:
        seconds = {"decode_seconds": 0.5, "generator_seconds": 2.0, "commit_seconds": 0.25}
        (summary,) = summarise(
            manifest, routes, seconds, refreshed=1, sizes={"read_bytes": 100, "written_bytes": 7}
        ).to_pylist()
        totals.add(summary)
        metrics.report(summary, pending)
    values = reported.values
    for status, route in itertools.product(STATUSES, ("watermark", CLEAN)):
        assert values["images", status, route] == pytest.approx(totals.routes[route][status])
    assert {error.code: error.count for error in totals.top_errors} == {
        code: values["errors", code] for code in (*FAILED, *REJECTED) if values["errors", code] >= 1
    }
    assert {step: values["step_seconds", step] for step in ("decode", "generator", "commit")} == {
        "decode": 1.0,
        "generator": 4.0,
        "commit": 0.5,
    }
    assert (values["read_bytes",], values["written_bytes",]) == (200, 14)
    assert values["pending_images",] == 0


def test_images_that_are_gone_are_reported_and_so_is_that_none_is(reported: Reported) -> None:
    metrics.checked_images("out", None)
    assert not reported.values
    metrics.checked_images("out", ImageCheck(9, 2))
    assert reported.values == {("missing_images", "out"): 2}
    metrics.checked_images("out", ImageCheck(9))
    assert reported.values == {("missing_images", "out"): 0}


def test_a_canary_counts_under_its_defect_and_comparisons_do_not(reported: Reported) -> None:
    manifest = [{"image_id": "a", "status": "corrected", "error_code": None, "error_message": None}]
    beside = [("watermark (current)", "rejected")]
    (summary,) = summarise(manifest, ["watermark (canary)"], beside=beside).to_pylist()
    metrics.report(summary, 0)
    counts = {key: value for key, value in reported.values.items() if key[0] == "images" and value}
    assert counts == {("images", "corrected", "watermark"): 1}


def test_every_series_of_images_and_errors_starts_at_zero(reported: Reported) -> None:
    """Prometheus cannot know how much a series' first value has grown."""
    metrics.start(["watermark", "wrong_angle"])
    names = [name for name in reported.values if name[0] == "images"]
    assert len(names) == len(STATUSES) * 4
    assert {name[1] for name in reported.values if name[0] == "errors"} == {*FAILED, *REJECTED}
    assert all(value < 1e-300 for value in reported.values.values())
