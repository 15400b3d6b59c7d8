"""What the documentation points to exists: relative links, the headings in them, and source files that it names."""

import re
from pathlib import Path

import pytest

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_SOURCE = re.compile(r"`((?:\w+/)+\w+\.py)`")
_HEADING = re.compile(r"(?m)^#{1,6} (.*)$")


def pages(repository: Path) -> list[Path]:
    return [*repository.glob("*.md"), *(repository / "docs").glob("*.md"), repository / "infra/README.md"]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _HEADING.findall(text)}


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    found = []
    for link in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            found.append(link)
    return found


def test_links_lead_somewhere(repository: Path) -> None:
    assert {page.name: broken(page) for page in pages(repository) if broken(page)} == {}


def test_source_files_are_where_the_pages_say(repository: Path) -> None:
    """Paths are from the project's root, or below pipelines/ (docs/architecture.md)."""
    named = {(page.name, name) for page in pages(repository) for name in _SOURCE.findall(page.read_text())}
    assert len(named) > 20
    roots = (repository, repository / "pipelines")
    assert {
        (page, name) for page, name in named if not any((root / name).exists() for root in roots)
    } == set()


def test_every_page_can_be_reached_from_the_readme(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    links = {link.partition("#")[0] for link in _LINK.findall(readme)}
    assert {f"docs/{page.name}" for page in (repository / "docs").glob("*.md")} <= links


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("[a](gone.md) and [b](there.md#no-heading)", ["gone.md", "there.md#no-heading"]),
        ("[a](there.md#one--two) and `[b](gone.md)`", []),
        ("[a](https://example.com/gone.md)", []),
    ],
)
def test_a_broken_link_is_noticed(tmp_path: Path, text: str, links: list[str]) -> None:
    (tmp_path / "there.md").write_text("# One & two\n")
    page = tmp_path / "page.md"
    page.write_text(text)
    assert broken(page) == links
