"""A run is compared with the last ones: rejected corrections, FID and KID."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.correction.report.alerts import Thresholds, earlier_runs, find_alerts


def night(
    rejected: int = 10, of: int = 100, fid: float = 50.0, kid: float = 0.01, n: int = 3000
) -> dict[str, Any]:
    row = {"n": n, "fid_after": fid, "kid_after": kid, "kid_after_ci95": [kid * 0.9, kid * 1.1]}
    counts = {"corrected": of - rejected, "rejected": rejected, "passthrough": 7, "failed": 1}
    return {"state": "complete", "corrected_now": counts, "fid": {"watermark": row}}


HISTORY = [night(), night(rejected=14), night(rejected=2), night(fid=55.0)]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (night(), []),
        (night(rejected=19), []),
        (night(rejected=25), ["25% of the corrections were rejected; the median of the last 4 runs is 10%"]),
        (night(rejected=20, of=40), []),  # too few to say
        (night(fid=70.0), ["FID of watermark after correction is 70; the median of the last 4 runs is 50"]),
        (night(fid=70.0, n=500), []),  # FID of so few images depends on their number
        (
            night(kid=0.02),
            ["KID of watermark after correction is 0.02; the median of the last 4 runs is 0.01"],
        ),
        (night(kid=0.0135), []),  # the interval reaches below a quarter more
        (night(kid=0.02, n=20), []),
    ],
)
def test_what_is_worse_than_the_last_runs_is_named(record: dict[str, Any], words: list[str]) -> None:
    assert find_alerts(record, HISTORY, Thresholds()) == words


def test_a_canary_that_is_rejected_more_often_than_the_current_bundle_is_named_without_any_history() -> None:
    def trial(rejected: int, of: int) -> dict[str, Any]:
        counts = {
            "canary": {"corrected": of - rejected, "rejected": rejected},
            "current": night()["corrected_now"],
        }
        return {**night(), "canary": {"counts": {"watermark": counts}}}

    assert find_alerts(trial(25, 100), [], Thresholds()) == [
        "25% of the canary's corrections of watermark were rejected, and 10% of the current bundle's"
    ]
    assert find_alerts(trial(19, 100), [], Thresholds()) == []
    assert find_alerts(trial(40, 40), [], Thresholds()) == []  # too few to say
    assert find_alerts({**night(), "canary": None}, [], Thresholds()) == []


def test_two_runs_are_no_history_and_another_defects_figures_do_not_count() -> None:
    bad = night(rejected=90, fid=500.0, kid=1.0)
    assert find_alerts(bad, HISTORY[:2], Thresholds()) == []
    others = [{**one, "fid": {"wrong_angle": one["fid"]["watermark"]}} for one in HISTORY]
    assert len(find_alerts(bad, others, Thresholds())) == 1
    nothing: dict[str, Any] = {"state": "complete", "corrected_now": {}, "fid": None}
    assert find_alerts(nothing, HISTORY, Thresholds()) == []
    without = {
        **night(),
        "fid": {"watermark": {"n": 3000, "fid_after": None, "kid_after": None, "kid_after_ci95": None}},
    }
    assert find_alerts(without, HISTORY, Thresholds()) == []


def test_a_tiny_kid_that_doubles_is_no_drift() -> None:
    assert find_alerts(night(kid=0.0008), [night(kid=0.0001)] * 4, Thresholds()) == []


def test_thresholds_are_the_callers() -> None:
    record = night(rejected=15, fid=52.0, kid=0.0101)
    assert len(find_alerts(record, HISTORY, Thresholds(rejected=0.01, drift=0.01))) == 2
    for wrong in ({"rejected": -0.1}, {"rejected": 2.0}, {"drift": -1.0}):
        with pytest.raises(ConfigurationError, match="--notify-"):
            Thresholds(**wrong)


def write_night(output: Path, number: int, **changes: Any) -> None:
    """Write the record of a night, in which `number` of a hundred corrections were rejected."""
    (output / "runs").mkdir(exist_ok=True)
    (output / "runs" / f"{number:03}.json").write_text(json.dumps({**night(rejected=number), **changes}))


def rejected(records: list[dict[str, Any]]) -> list[int]:
    return [one["corrected_now"]["rejected"] for one in records]


NOTHING_TO_DO: dict[str, Any] = {"corrected_now": {"corrected": 0, "rejected": 0}, "fid": None}


def test_the_history_is_the_last_seven_published_runs_that_corrected(tmp_path: Path) -> None:
    for day in range(1, 13):
        write_night(tmp_path, day)
    write_night(tmp_path, 10, state="failed")
    write_night(tmp_path, 11, **NOTHING_TO_DO)
    assert rejected(earlier_runs(str(tmp_path), "012.json")) == [9, 8, 7, 6, 5, 4, 3]
    assert earlier_runs(str(tmp_path / "new"), "x") == []


def test_weeks_of_nights_without_work_hide_no_history(tmp_path: Path) -> None:
    for day in range(1, 100):
        write_night(tmp_path, day, **({} if day < 10 else NOTHING_TO_DO))
    assert rejected(earlier_runs(str(tmp_path), "100")) == [9, 8, 7, 6, 5, 4, 3]


def test_files_that_are_no_records_are_left_out_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for day in range(1, 6):
        write_night(tmp_path, day)
    (tmp_path / "runs" / "003.json").write_text("{")
    (tmp_path / "runs" / "005.json").write_text("[]")
    assert rejected(earlier_runs(str(tmp_path), "006")) == [4, 2, 1]
    assert caplog.messages == [
        "records of earlier runs are left out, for they cannot be read: 005.json, 003.json"
    ]


def test_a_storage_that_fails_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(uri: str) -> bytes:
        raise ConnectionError("no answer")

    write_night(tmp_path, 1)
    monkeypatch.setattr(storage, "read_bytes", fail)
    assert earlier_runs(str(tmp_path), "002") == []
    assert "records of earlier runs cannot be read; comparing with 0: no answer" in caplog.text
