"""The report in a real browser: no text from a seller is executed."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipelines.correction.report.page import RunSummary, render
from pipelines.correction.stream.totals import TopError
from pipelines.reports.pictures import Strip
from tests.hostile_images import drawing, encode

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: Each would change the page's title to its number if it were executed.
ATTACKS = (
    "<script>document.title='ran 0'</script>",
    '"><img src=x onerror="document.title=\'ran 1\'">',
    "'><svg/onload=\"document.title='ran 2'\">",
    "</title></style></textarea><script>document.title='ran 3'</script>",
    '" autofocus onfocus="document.title=\'ran 4\'" x="',
    "<iframe srcdoc=\"<script>parent.document.title='ran 5'</script>\">",
    "javascript:document.title='ran 6'",
    "<a href=\"javascript:document.title='ran 7'\">x</a>",
    "{{ ''.__class__ }}{% print 'ran 8' %}",
    "<!--><script>document.title='ran 9'</script>",
    "&lt;script&gt;document.title='ran 10'&lt;/script&gt;",
    "<style>@import 'javascript:1'; * {background: url(http://127.0.0.1:9/x)}</style>",
    "<base href='http://127.0.0.1:9/'><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "\u2028</script><script>document.title='ran 13'</script>",
    "+ADw-script+AD4-document.title='ran 14'+ADw-/script+AD4-",
)


def page(attacks: Sequence[str] = ATTACKS) -> str:
    """Return the report of a run in which every text from a seller is an attack."""
    picture = encode(drawing())
    named = dict(enumerate(attacks))
    strips = [Strip(text, text, picture, picture, rejected=text) for text in attacks]
    errors = [TopError(text, 1, [text], f"cannot read s3://shop/{text}") for text in attacks]
    return render(
        RunSummary(
            counts_by_status={"corrected": 1, "failed": len(errors)},
            counts_by_defect={f"{number} {text}": {"corrected": 1} for number, text in named.items()},
            duration_seconds=1.0,
            started_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
            model_version="m" * 64,
            configuration={
                "catalog": list(attacks),
                **{f"{number} {text}": text for number, text in named.items()},
            },
            errors=errors,
            fid_missing="".join(attacks),
            strips={f"{number} {named[number]}": strips for number in range(2)},
        )
    )


def loaded_by(browser: str, text: str, folder: Path) -> str:
    """Return the browser's document after loading `text`, with time for scripts to run."""
    file = folder / "page.html"
    file.write_text(text, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run([browser, *flags, file.as_uri()], capture_output=True, timeout=300, check=True)
    return done.stdout.decode("utf-8", "replace")


class Document(HTMLParser):
    """Hold a page's title, and every element with the names of its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title = ""
        self.elements: set[tuple[str, tuple[str, ...]]] = set()
        self.links: set[str] = set()
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.add((tag, tuple(name for name, _ in attributes)))
        self.links |= {
            value or "" for name, value in attributes if name in ("src", "href", "action", "srcdoc")
        }
        self._in_title = tag == "title"

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def check_like(document: Document, harmless: Document) -> None:
    """Check that only texts differ, not elements and their attributes."""
    assert document.elements == harmless.elements
    assert document.title == harmless.title != ""
    assert all(
        link.startswith(("data:image/jpeg;base64,", "#")) or link in harmless.links for link in document.links
    )


def test_attacks_are_text_to_a_parser() -> None:
    check_like(Document(page()), Document(page(attacks=("nothing",) * len(ATTACKS))))


def test_no_script_of_a_seller_runs(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser on this machine (tried {', '.join(BROWSERS)})")
    # The page's policy forbids scripts; escaping must be enough without it.
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    bare, harmless = (policy.sub("", text, count=1) for text in (page(), page(("nothing",) * len(ATTACKS))))
    assert bare != page()
    loaded = Document(loaded_by(browser, bare, tmp_path))
    # Compare with a harmless page in the browser, too: it adds optional elements such as tbody.
    check_like(loaded, Document(loaded_by(browser, harmless, tmp_path)))
    # The browser executes text that is not escaped; otherwise this test could not fail.
    control = bare.replace("</body>", ATTACKS[1].partition(">")[2] + "</body>")
    assert Document(loaded_by(browser, control, tmp_path)).title == "ran 1"
