"""The report's page, read back with the standard library's parser: no browser is needed."""

import base64
import dataclasses
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from pipelines.correction.report.page import RunSummary, render, write_report
from pipelines.correction.stream.totals import TopError
from pipelines.reports.html import (
    flatten,
    format_change,
    format_duration,
    format_moment,
    format_number,
    format_rate,
    format_share,
    shorten,
)
from pipelines.reports.pictures import Strip

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ run.configuration }} {% raw %}",
    "</style><h1>&amp;",
    "قميص أزرق",
    "\u202egpj.exe\u2066",
    "nul\x00 bell\x07 del\x7f",
    "not utf-8 \udcff",
    "日本語 👗",
    "x" * 2000,
]

Node = tuple[str, tuple[tuple[str, str | None], ...]]


class Page(HTMLParser):
    """Collect tags in order, texts, and a problem for each element that is not closed properly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.parents: list[tuple[str, str]] = []  # (element, text in it)
        self.problems: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        self.problems += [f"{tag} is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.nodes.append((tag, tuple(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"unexpected </{tag}>")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.parents.append((self.open[-1], data))

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.parents]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def structure(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return tags and the names of their attributes, which sellers' text must not be able to change."""
        return [(tag, tuple(name for name, _ in attrs)) for tag, attrs in self.nodes]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [dict(attrs) for name, attrs in self.nodes if name == tag]


def fid_row(**changes: Any) -> dict[str, object]:
    row: dict[str, object] = {
        "n": 6120,
        "n_reference": 4210,
        "fid_before": 182.43,
        "fid_after": 74.06,
        "kid_before": 0.1214,
        "kid_after": 0.0402,
        "kid_after_ci95": [0.0381, 0.0423],
        "note": None,
    }
    return row | changes


def summary(text: str = "shirt-17", **changes: Any) -> RunSummary:
    """Return a run in which every text from a seller is `text`."""
    run = RunSummary(
        counts_by_status={"corrected": 12_431, "passthrough": 6_984, "rejected": 212, "failed": 373},
        counts_by_defect={text: {"corrected": 9_820, "failed": 12}},
        duration_seconds=1422.3,
        images_per_second=16.7,
        started_at=datetime(2025, 11, 22, 2, 0, tzinfo=timezone.utc),
        model_version="9f3c5e01" * 8,
        configuration={"catalog": [text], "fid": {"samples": 10_000, "label": text}},
        errors=[TopError("truncated", 61, [text, text], text)],
        fid={"defects": {text: fid_row()}, "features": {}},
        strips={
            text: [
                Strip(text, text, b"\xff\xd8before", b"\xff\xd8after"),
                Strip(text, text, b"\xff\xd8before", b"\xff\xd8after", rejected=text),
            ]
        },
        profile=text,
        profile_issues={"fill_share": 12},
    )
    return dataclasses.replace(run, **changes)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_markup(text: str) -> None:
    page = Page(render(summary(text)))
    assert page.structure() == Page(render(summary())).structure()
    assert not page.problems


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1))
def test_any_text_adds_no_markup(text: str) -> None:
    html = render(summary(text))
    html.encode("utf-8")  # characters that cannot be encoded have been replaced
    assert Page(html).structure() == Page(render(summary())).structure()


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "\"quoted\" & 'so'", "قميص أزرق", "日本語 👗"])
def test_text_stays_readable(text: str) -> None:
    page = Page(render(summary(text)))
    assert text in page.texts
    assert f"Upload {text}, before correction" in {image["alt"] for image in page.all("img")}


def test_text_of_sellers_is_isolated_from_its_surroundings() -> None:
    """A right-to-left or overriding id must not reorder the figures beside it."""
    page = Page(render(summary("mark-of-a-seller", configuration={})))
    parents = [parent for parent, text in page.parents if "mark-of-a-seller" in text]
    assert parents
    assert set(parents) == {"bdi"}


def test_long_ids_are_cut_in_the_middle() -> None:
    text = "head-" + "x" * 2000 + "-tail"
    page = Page(render(summary(text, configuration={})))
    parts = [part for part in page.texts if part.startswith("head-")]
    assert len(parts) >= 6  # the defect three times, the picture's id and type, the error
    assert all(part.endswith("-tail") and len(part) <= 160 for part in parts)
    assert max(len(value or "") for _, attrs in page.nodes for _, value in attrs) < 250


@given(st.text(), st.integers(min_value=8, max_value=50))
def test_shorten_keeps_the_limit_and_both_ends(text: str, longest: int) -> None:
    short = shorten(text, longest)
    assert len(short) <= longest
    if len(text) > longest:
        head, tail = short.split("…", 1) if "…" not in text else (text[:1], text[-1:])
        assert text.startswith(head)
        assert text.endswith(tail)
    else:
        assert short == text


def test_page_loads_nothing_and_runs_nothing() -> None:
    html = render(summary())
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "video"} & {
        tag for tag, _ in page.nodes
    }
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    names = {name for _, attrs in page.nodes for name, _ in attrs}
    assert not {"href", "srcset", "background", "action", "poster"} & names
    assert not [name for name in names if name.startswith("on")]
    assert "url(" not in html
    assert "@import" not in html
    policy = next(
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")


def test_pictures_are_the_bytes_that_were_given() -> None:
    sources = [image["src"] for image in Page(render(summary())).all("img")]
    pictures = [base64.b64decode(source.split(",", 1)[1]) for source in sources]
    assert pictures == [b"\xff\xd8before", b"\xff\xd8after"] * 2


def test_pictures_have_texts_and_columns_have_headers() -> None:
    page = Page(render(summary()))
    assert all(image["alt"] for image in page.all("img"))
    assert {cell.get("scope") for cell in page.all("th")} == {"col", "row"}
    width = 0
    cells: list[int] = []
    for tag, attrs in page.nodes:
        if tag == "thead":
            width = 0
        elif tag == "th" and dict(attrs)["scope"] == "col":
            width += 1
        elif tag == "tr":
            cells.append(0)
        elif tag in ("th", "td"):
            cells[-1] += 1
            assert cells[-1] <= width
    assert len(cells) > 4
    assert page.all("html")[0]["lang"] == "en"


def test_headline_adds_up() -> None:
    text = Page(render(summary())).text
    assert "12,431 of 20,000 images corrected" in text
    for expected in ("6,984 34.9%", "212 1.1%", "373 1.9%", "16.7", "23 min 42 s", "2025-11-22 02:00 UTC"):
        assert expected in text
    assert "9,832" in text  # all rows of the one defect


def test_a_run_without_images_has_a_page_too() -> None:
    nothing = RunSummary({}, {}, 0.0, datetime(2025, 1, 1), "0" * 64, {}, fid={"defects": {}, "features": {}})
    page = Page(render(nothing))
    assert "0 of 0 images corrected" in page.text
    assert "nothing to measure" in page.text
    assert not page.problems


def test_quality_table_shows_before_after_change_and_interval() -> None:
    text = Page(render(summary())).text
    assert "182.4 → 74.1" in text
    assert "−59%" in text
    assert "0.1214 → 0.0402" in text
    assert "0.0381 to 0.0423" in text


def test_figures_that_were_not_computed_are_dashes_with_a_reason() -> None:
    row = fid_row(
        n=9,
        fid_before=None,
        fid_after=None,
        kid_before=None,
        kid_after=None,
        kid_after_ci95=None,
        note="too few: 9 & less",
    )
    page = Page(render(summary(fid={"defects": {"wrong_angle": row}, "features": {}})))
    assert "too few: 9 & less" in page.text
    assert "None" not in page.text
    assert "nan" not in page.text
    assert page.text.count("–") >= 3


def test_a_run_without_fid_has_the_reason() -> None:
    page = Page(render(summary(fid=None, fid_missing="no weights: give --fid-weights <PATH>")))
    assert "not computed: no weights: give --fid-weights <PATH>" in page.text
    assert "FID before" not in page.text


def test_worse_is_not_shown_as_better() -> None:
    rows = {"up": fid_row(fid_before=10.0, fid_after=15.0), "down": fid_row(fid_before=10.0, fid_after=5.0)}
    html = render(summary(fid={"defects": rows, "features": {}}))
    assert '<span class="worse">+50%</span>' in html
    assert '<span class="better">−50%</span>' in html


def test_a_missing_key_is_an_error_not_a_blank() -> None:
    row = fid_row()
    del row["kid_after"]
    with pytest.raises(UndefinedError, match="kid_after"):
        render(summary(fid={"defects": {"watermark": row}, "features": {}}))


def test_configuration_is_flat_rows() -> None:
    rows = flatten(
        {"actors": "1:8", "fid": {"samples": 10, "reference": None}, "catalog": ["a", "ب"], "empty": {}}
    )
    assert rows == [
        ("actors", "1:8"),
        ("fid.samples", "10"),
        ("fid.reference", "null"),
        ("catalog", '["a", "ب"]'),
        ("empty", "{}"),
    ]


def test_write_report_writes_one_page_and_the_same_page_again(tmp_path: Path) -> None:
    uri = write_report(str(tmp_path / "run"), summary())
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        "run/report/index.html"
    ]
    first = Path(uri).read_bytes()
    assert first.decode("utf-8") == render(summary())
    write_report(str(tmp_path / "run"), summary())
    assert Path(uri).read_bytes() == first


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_share_never_reads_as_none_or_all_unless_it_is(part: int, rest: int) -> None:
    text = format_share(part, part + rest)
    assert text != "100%"
    assert (text == "0%") == (part == 0)


@given(st.floats(1e-3, 1e6), st.floats(0, 1e6))
def test_change_has_the_sign_of_the_difference(before: float, after: float) -> None:
    text = format_change(before, after)
    assert text.startswith("−") <= (after < before)
    assert text.startswith("+") <= (after > before)


def test_formats() -> None:
    assert format_change(None, 1.0) == format_change(0.0, 1.0) == format_change(1.0, float("nan")) == "–"
    assert format_change(100.0, 100.1) == "±0%"
    assert format_number(-0.00001, 4) == "0.0000"
    assert format_number(-1234.5, 1) == "−1,234.5"
    assert format_number(float("inf"), 1) == "–"
    assert [format_duration(seconds) for seconds in (0.04, 59.9, 61, 3599.6, 7320)] == [
        "0.0 s",
        "59.9 s",
        "1 min 01 s",
        "1 h 00 min",
        "2 h 02 min",
    ]
    assert (
        format_moment(datetime(2025, 1, 1, 3, tzinfo=timezone(timedelta(hours=2)))) == "2025-01-01 01:00 UTC"
    )
    assert [format_rate(rate) for rate in (None, 0.042, 9.84, 1210.4)] == ["–", "0.04", "9.8", "1,210"]


def test_rejections_have_pictures_of_their_own_and_their_reason() -> None:
    html = render(summary())
    accepted, rejected = html.index('id="pictures"'), html.index('id="rejected"')
    assert accepted < html.index("<figure>") < rejected < html.rindex("<figure>")
    bare = render(summary(strips={"mug": [Strip("a", None, b"1", b"2")]}))
    assert 'id="rejected"' not in bare
    only = {
        "mug": [Strip("a", None, b"1", b"2", rejected="the figure is 7, above 5 (--gates: product_changed)")]
    }
    page = render(summary(strips=only))
    assert 'id="pictures"' not in page
    assert "the figure is 7, above 5 (--gates: product_changed)" in page


def test_a_marketplaces_rules_are_counted_if_there_is_a_profile() -> None:
    page = render(summary(profile="Shop rules"))
    assert "Shop rules" in page
    assert "fill_share" in page
    assert "12 (&lt;0.1%)" in page
    assert "every corrected image fits" in render(summary(profile_issues={}))
    assert 'id="profile"' not in render(summary(profile=None))


@pytest.mark.parametrize(("unchanged", "text"), [(1, "1 image was done"), (1234, "1,234 images were done")])
def test_images_done_by_earlier_runs_are_reported(unchanged: int, text: str) -> None:
    assert f"{text} by an earlier run" in Page(render(summary(unchanged=unchanged))).text
    assert "by an earlier run" not in Page(render(summary())).text


@pytest.mark.parametrize(
    ("resumed", "text"), [(1, "1 of these was finished"), (1234, "1,234 of these were finished")]
)
def test_images_done_by_a_killed_attempt_are_reported(resumed: int, text: str) -> None:
    page = Page(render(summary(resumed=resumed))).text
    assert f"{text} before the run was interrupted" in page
    assert f"FID, KID and pictures are of the {summary().total - resumed:,} that followed" in page
    assert "interrupted" not in Page(render(summary())).text
