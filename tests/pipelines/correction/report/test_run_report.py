"""run.json and the report's page: what a night says of itself, and of which rows."""

import io
import json
import re
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.cluster.placement import Placement
from pipelines.correction.inspect.pending import Inspection
from pipelines.correction.inspect.survey import Survey
from pipelines.correction.plan import Plan
from pipelines.correction.report.record import Record
from pipelines.correction.report.run_report import describe, report, versions, write_page
from pipelines.correction.rows import STRIP, STRIPS, to_table
from pipelines.correction.run import STRIPS_PER_DEFECT, Run
from pipelines.correction.stream.totals import Totals, summarise
from pipelines.published.records import COMPLETE, RUNNING
from tests.catalogs import picture
from tests.hostile_images import encode

ATTEMPT = "001-20261130T020000Z-1a2b3c4d"


@pytest.fixture
def run(plan: Plan) -> Run:
    """A night over 20 rows, of which it has corrected 5, after an attempt that was killed behind 2 others."""
    found = Run(
        plan,
        Placement("cpu", 1, 2),
        datetime(2026, 11, 30, 2, tzinfo=timezone.utc),
        ATTEMPT.partition("-")[2],
        attempt=ATTEMPT,
        inspection=Inspection(Survey(0), rows=20),
        seconds={"inspect": 1.0, "correct": 2.5, "total": 4.0},
    )
    mine = summary("corrected", "corrected", "corrected", "rejected", "failed", decode_seconds=1.5)
    found.totals.add(mine)
    found.night.add(mine)
    found.night.add(summary("corrected", "failed"))
    found.statuses = Counter(passthrough=13) + Counter(found.night.statuses)
    return found


def summary(*statuses: str, **seconds: float) -> dict[str, Any]:
    manifest = [
        {
            "image_id": f"{status}-{number}",
            "status": status,
            "error_code": {"failed": "corrupt", "rejected": "halo"}.get(status),
            "error_message": f"why {status}",
        }
        for number, status in enumerate(statuses)
    ]
    (row,) = summarise(manifest, ["watermark"] * len(manifest), seconds).to_pylist()
    return row


def finished(run: Run) -> dict[str, Any]:
    """Return the run.json of a run that is about to publish."""
    record = Record(run.output)
    record.run = run
    record.finish()
    said: dict[str, Any] = json.loads((Path(run.output) / ".run" / "run.json").read_text())
    assert said == json.loads(json.dumps(record.content))
    return said


def test_the_counts_of_run_json_add_up(run: Run) -> None:
    said = finished(run)
    assert said["state"] == "complete"  # 2 of 20 failed, as many as are tolerated
    assert sum(said["counts"].values()) == said["rows_in"] == 20
    assert said["corrected_now"] == {"corrected": 4, "passthrough": 0, "rejected": 1, "failed": 2}
    assert (said["resumed"], said["unchanged"]) == (2, 13)
    assert said["counts_by_route"] == {"watermark": said["corrected_now"]}
    assert [(error["code"], error["count"]) for error in said["errors"]] == [("corrupt", 2), ("halo", 1)]
    assert said["error_counts"] == {"corrupt": 2, "halo": 1}
    assert said["images_per_second"] == 2.0  # the 5 of this run in 2.5 s
    assert said["core_seconds"]["decode_seconds"] == 1.5
    assert said["run"] == "20261130T020000Z-1a2b3c4d"
    assert said["started_at"] == "2026-11-30T02:00:00+00:00"
    assert said["placement"]["max_actors"] == 2


@pytest.mark.parametrize(("failed", "state"), [(2, "complete"), (3, "too many failed")])
def test_a_night_with_more_failures_than_tolerated_says_so(run: Run, failed: int, state: str) -> None:
    run.statuses = Counter(failed=failed, passthrough=20 - failed)
    said = finished(run)
    assert (said["state"], said["exit_code"]) == (state, 3 if failed == 3 else 0)
    assert (said["reason"] is None) == (state == COMPLETE)


def test_a_run_at_work_says_what_it_leaves_alone(run: Run) -> None:
    """Nothing is corrected yet: all that waits does not count as unchanged."""
    run.inspection, run.statuses = Inspection(Survey(0), rows=20), Counter()
    record = Record(run.output)
    record.begin(run)
    said = json.loads(Path(run.folder.record(record.name)).read_text())
    assert (said["state"], said["unchanged"]) == (RUNNING, 20)


def test_every_field_that_is_documented_is_there(run: Run, repository: Path) -> None:
    section = (repository / "docs" / "nightly.md").read_text().split("| field |")[1].split("\n#")[0]
    fields = {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert len(fields) > 12
    assert fields <= finished(run).keys()


def test_what_decides_the_bytes_is_named_with_its_version() -> None:
    found = versions()
    assert found.keys() >= {
        "python",
        "catalog-repair",
        "ray",
        "torch",
        "pillow",
        "opencv-python-headless",
        "numba",
    }
    assert all(found[name][0].isdecimal() for name in found.keys() - {"catalog-repair"})


def strips(run: Run, attempt: str, part: int, *names: str, route: str = "watermark", **columns: Any) -> None:
    """Keep pictures of these rows, as a block of `attempt` does."""
    jpeg = encode(picture(1), "JPEG")
    found = [
        {"image_id": name, "route": route, "product_type": "mug", "before": jpeg, "after": jpeg, **columns}
        for name in names
    ]
    place = Path(run.folder.at(STRIPS, attempt, f"{part:03}.parquet"))
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(to_table(found, STRIP), place)


def page(run: Run) -> str:
    write_page(run)
    return (Path(run.output) / ".run" / "report" / "index.html").read_text()


def test_pictures_are_of_this_attempt_a_few_of_each_defect_in_the_order_of_ids(run: Run) -> None:
    names = [f"id-{number:02}" for number in range(STRIPS_PER_DEFECT + 4)]
    strips(run, ATTEMPT, 0, *names[::-2])
    strips(run, ATTEMPT, 1, *names[::-1][1::2])
    strips(run, "000-killed", 0, "of-another-attempt")
    text = page(run)
    shown = [name for name in names if f"{name}<" in text or f'{name}"' in text]
    assert shown == names[:STRIPS_PER_DEFECT]
    assert [text.index(name) for name in shown] == sorted(text.index(name) for name in shown)
    assert "of-another-attempt" not in text


def test_the_picture_beside_the_page_has_corrections_only(run: Run) -> None:
    strips(run, ATTEMPT, 0, "good")
    strips(run, ATTEMPT, 1, "bad", rejected="halo: a seam is left")
    text = page(run)
    assert "halo: a seam is left" in text
    sheet = Path(run.output) / ".run" / "report" / "before_after.png"
    one = Image.open(io.BytesIO(sheet.read_bytes())).size
    strips(run, ATTEMPT, 2, "good too")
    page(run)
    two = Image.open(io.BytesIO(sheet.read_bytes())).size
    assert two[0] - 8 == 2 * (one[0] - 8)  # a column for each corrected image
    sheet.unlink()
    for part in (0, 2):
        strips(run, ATTEMPT, part, f"bad {part}", rejected="halo")
    page(run)
    assert not sheet.exists()


def test_a_night_without_new_rows_leaves_the_last_page(run: Run) -> None:
    published = Path(run.output) / "report" / "index.html"
    published.parent.mkdir(parents=True)
    published.write_text("the last night's")
    report(run)
    assert (Path(run.output) / ".run" / "report" / "index.html").exists()
    run.folder.begin_attempt()
    run.night, run.totals = Totals(), Totals()
    report(run)
    assert not (Path(run.output) / ".run" / "report").exists()
    assert describe(run)["unchanged"] == 20


def test_a_first_night_without_rows_to_correct_has_a_page(run: Run) -> None:
    run.night, run.totals = Totals(), Totals()
    report(run)
    assert (Path(run.output) / ".run" / "report" / "index.html").exists()
