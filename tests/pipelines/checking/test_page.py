"""The page of a dataset check: counts and remedies of every finding, short lists, and pictures where there are any."""

import io
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.checking.config import CheckConfig, Plan, resolve
from pipelines.checking.findings import KINDS, Findings, Leak
from pipelines.checking.look_again import FetchedImage
from pipelines.checking.page import LISTED, PRODUCT_TYPES, SHOWN, render, sheet
from pipelines.checking.tally import SIDES, Example, Tally
from pipelines.reports.pictures import BACKDROP, CELL
from tests.catalogs import picture
from tests.checking_data import healthy, write
from tests.hostile_images import encode

JPEG = encode(picture(1), "JPEG")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("page")
    write(folder / "set", healthy())
    return resolve(CheckConfig((str(folder / "set"),), str(folder / "out")))


def seen(image: int, image_id: str, pixels: bytes | None = JPEG) -> FetchedImage:
    return FetchedImage(
        image, "s3://b/shards/part-1.parquet", image // 2, image_id, "watermark", "mug", pixels
    )


def text_of(plan: Plan, findings: Findings, **given: Any) -> str:
    page = render(plan, findings, **{"pictures": {}, "samples": {}, **given})
    return " ".join(page.split())


def test_every_finding_has_its_count_and_what_to_do(plan: Plan) -> None:
    counts = Counter({name: 1000 + number for number, name in enumerate(KINDS)})
    page = text_of(plan, Findings(6, Tally(), counts)).replace("&#39;", "'")
    for number, (name, kind) in enumerate(KINDS.items()):
        row = page.split(f">{kind.title}</span></th>")[1].split("</tr>")[0]
        assert f"1,{number:03}" in row, name
        assert kind.remedy in row, name
        assert (">problem<" in row) == kind.strict, name
    strict = sum(kind.strict for kind in KINDS.values())
    assert f"{strict} kinds of problems in 6 rows" in page


def test_a_list_on_the_page_is_short_and_says_so(plan: Plan) -> None:
    tally = Tally()
    for number in range(LISTED + 5):
        tally.find(
            "unreadable", Example(0, number, "a/part-0.parquet", f"id{number:03}", "watermark", "t" * 500)
        )
    page = text_of(plan, Findings(99, tally, Counter(unreadable=LISTED + 5)))
    assert f"the first {LISTED}" in page
    assert f"id{LISTED - 1:03} (watermark, part-0.parquet row {LISTED - 1})" in page
    assert f"id{LISTED:03}" not in page
    assert "t" * 500 not in page


def test_leaks_are_shown_with_both_pictures_and_the_rest_is_counted(plan: Plan) -> None:
    images = {number: seen(number, f"leak{number:03}") for number in range(2 * SHOWN + 4)}
    leaks = [Leak(images[n], images[n + 1], 5, 0.98) for n in range(0, 2 * SHOWN + 4, 2)]
    pictures = {**images, 1: seen(1, "leak001", None)}
    findings = Findings(
        6, Tally(), Counter(near_duplicates_across=len(leaks)), {"near_duplicates_across": leaks}
    )
    page = text_of(plan, findings, pictures=pictures)
    assert page.count("<img ") == 2 * SHOWN - 1
    assert page.count("no image</div>") == 1
    assert f", {SHOWN} of {len(leaks)}</h3>" in page
    assert "5 of 64 bits differ; details correlate at 0.98" in page
    assert f"leak{2 * SHOWN:03}" not in page


def test_the_most_frequent_product_types_are_listed(plan: Plan) -> None:
    tally = Tally()
    for number in range(PRODUCT_TYPES + 3):
        for defect, split, count in (("watermark", "train", 100 - number), ("wrong_angle", "test", 1)):
            tally.counts["products", f"type{number:03}", defect, split] = count
            tally.counts["rows", split, defect, "paired"] += count
    page = text_of(plan, Findings(9, tally))
    assert f"The {PRODUCT_TYPES} most frequent of {PRODUCT_TYPES + 3}." in page
    assert f"type{PRODUCT_TYPES:03}" not in page
    row = page.split("<bdi>type001</bdi>")[1].split("</tr>")[0]
    assert [cell.split(">")[1].split("<")[0] for cell in row.split("<td ")[1:]] == [
        "99",
        "1",
        "99",
        "1",
        "100",
    ]


def test_a_histogram_shows_the_bins_from_the_first_used_to_the_last(plan: Plan) -> None:
    tally = Tally(Counter({("size", "source", "2"): 30, ("size", "target", "4"): 10}))
    page = text_of(plan, Findings(9, tally))
    rows = page.split("Shorter side, pixels</h3>")[1].split("</table>")[0].split('<th scope="row">')[1:]
    names = [f"{low} to {high - 1}" for low, high in pairwise(SIDES[1:5])]
    assert [row.split("</th>")[0] for row in rows] == names
    assert "width: 100.0%" in rows[0]
    assert "width: 33.3" in rows[2]


def test_a_sheet_has_sources_above_targets_and_grey_where_there_is_none() -> None:
    white = encode(picture(1) * 0 + 255, "PNG")
    pairs = [(seen(0, "a", None), seen(1, "a", white)), (seen(2, "b", white), seen(3, "b", None))]
    with Image.open(io.BytesIO(sheet(pairs))) as image:
        pixels = [[image.getpixel((x, y)) for x in (60, 60 + CELL)] for y in (100, 100 + CELL)]
    assert pixels == [[BACKDROP, (255, 255, 255)], [(255, 255, 255), BACKDROP]]
    with Image.open(io.BytesIO(sheet([]))) as image:
        assert image.size == (CELL, CELL)


def test_nothing_found_is_said(plan: Plan, tmp_path: Path) -> None:
    page = text_of(plan, Findings(6, Tally()))
    assert "No problem in 6 rows" in page
    assert "None: every image can be read" in page
