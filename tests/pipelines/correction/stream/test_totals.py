from typing import Any

import pyarrow as pa
import pytest

from model.errors import TooManyFailedError
from pipelines.correction.rows import SUMMARY
from pipelines.correction.stream.totals import EXAMPLES, HOPELESS, Totals, summarise

SECONDS = {"decode_seconds": 1.0, "generator_seconds": 2.0, "commit_seconds": 0.5}


def manifest(count: int, status: str, code: str | None = None, prefix: str = "i") -> list[dict[str, Any]]:
    message = None if code is None else f"what {code} means"
    ids = [f"{prefix}{number}" for number in range(count)]
    return [
        {
            "image_id": name,
            "status": status,
            "error_code": code,
            "error_message": message and f"{message}: {name}",
        }
        for name in ids
    ]


def one(rows: list[dict[str, Any]], route: str) -> dict[str, Any]:
    table = summarise(rows, [route] * len(rows), SECONDS)
    assert table.schema == SUMMARY
    (summary,) = table.to_pylist()
    return summary


def test_a_blocks_summary_is_bounded_whatever_its_size() -> None:
    summary = one(manifest(5000, "failed", "corrupt"), "watermark")
    assert summary["rows"] == summary["failed"] == 5000
    (error,) = summary["errors"]
    assert (error["code"], error["count"], len(error["examples"])) == ("corrupt", 5000, EXAMPLES)


def test_totals_add_up_in_any_order() -> None:
    blocks = [
        one(manifest(3, "corrected") + manifest(2, "failed", "corrupt", "x"), "watermark"),
        one(manifest(4, "passthrough"), "clean"),
        one(manifest(5, "failed", "empty") + manifest(2, "failed", "corrupt", "a"), "watermark"),
        one([], "clean"),
    ]
    forward, backward = Totals(), Totals()
    for block in blocks:
        forward.add(block)
    for block in reversed(blocks):
        backward.add(block)
    for totals in (forward, backward):
        assert (totals.rows, totals.parts) == (16, 3)
        assert dict(totals.statuses) == {"corrected": 3, "passthrough": 4, "rejected": 0, "failed": 9}
        assert totals.routes["watermark"]["failed"] == 9
        assert [(error.code, error.count) for error in totals.top_errors] == [("empty", 5), ("corrupt", 4)]
        assert totals.top_errors[1].example_ids == ["a0", "a1", "x0"]
        assert totals.top_errors[1].example_message == "what corrupt means: a0"
        assert totals.seconds["generator_seconds"] == 8.0


def test_a_summary_without_errors_keeps_its_types() -> None:
    table = pa.concat_tables(
        [summarise([], [], SECONDS), summarise(manifest(1, "corrected"), ["watermark"], SECONDS)]
    )
    assert table.schema == SUMMARY


def test_what_a_marketplaces_rules_miss_is_counted_once_an_image_and_rule() -> None:
    rows = manifest(3, "corrected")
    rows[0]["profile_issues"] = ["bytes 9 > 8", "fill_share 0.62 < 0.85"]
    rows[1]["profile_issues"] = ["fill_share 0.99 > 0.90", "longest_side 600 < 1600 (recommended)"]
    rows[2]["profile_issues"] = None
    totals = Totals()
    for block in (one(rows, "watermark"), one(rows[:1], "watermark")):
        totals.add(block)
    assert totals.profile_issues == {"bytes": 2, "fill_share": 3, "longest_side (recommended)": 1}


def test_a_run_in_which_nothing_succeeds_is_given_up() -> None:
    hopeless = Totals()
    hopeless.add(one(manifest(500, "passthrough"), "clean"))
    hopeless.add(one(manifest(HOPELESS - 1, "failed", "missing"), "watermark"))
    hopeless.check_promising(0.1)  # too few to decide
    hopeless.add(one(manifest(1, "failed", "corrupt", "z"), "watermark"))
    with pytest.raises(
        TooManyFailedError,
        match=rf"first {HOPELESS} images .*{HOPELESS - 1} of them with missing \(i0: what missing means",
    ):
        hopeless.check_promising(0.1)
    hopeless.check_promising(1.0)  # whatever fails is tolerated
    hopeless.check_promising(0.1, before=1)  # one of them has failed before
    hopeless.add(one(manifest(1, "corrected", prefix="y"), "watermark"))
    hopeless.check_promising(0.1)
