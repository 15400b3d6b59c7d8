"""Renders the HTML page and the sample sheets of a check. The page is self-contained, without scripts."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image

from pipelines.checking.config import Plan
from pipelines.checking.findings import KINDS, Findings, Leak
from pipelines.checking.look_again import FetchedImage
from pipelines.checking.tally import SIDES, Example
from pipelines.reports.html import shorten, template
from pipelines.reports.pictures import BACKDROP, CELL, Strip, contact_sheet

#: Leaks of each kind that the page shows with pictures, two of 8 KB each. health.json names more.
SHOWN = 24
#: Most examples of a finding, and most product types, that the page lists.
LISTED, PRODUCT_TYPES = 20, 40

_SIZE_NAMES = (
    f"below {SIDES[0]}",
    *(f"{low} to {high - 1}" for low, high in pairwise(SIDES)),
    f"{SIDES[-1]} and more",
)
_ASPECT_NAMES = (
    "taller than 2:1",
    "2:1 to 3:2 tall",
    "3:2 to 5:4 tall",
    "5:4 tall to square",
    "square (within 5%)",
    "square to 5:4 wide",
    "5:4 to 3:2 wide",
    "3:2 to 2:1 wide",
    "wider than 2:1",
)


@dataclass(frozen=True)
class _Histogram:
    """Rows of (bin, source images, target images), and the largest of these numbers."""

    title: str
    rows: list[tuple[str, int, int]]
    largest: int


def render(
    plan: Plan, findings: Findings, pictures: Mapping[int, FetchedImage], samples: Mapping[str, Sequence[int]]
) -> str:
    """Return the page as HTML; the same findings give the same page.

    pictures: JPEGs of the shown leaks and of the samples, as far as they can be read. samples: numbers of source images
    by defect.
    """
    return template("health.html.j2").render(
        findings=findings,
        kinds=KINDS,
        examples={name: _examples(findings, name) for name in KINDS},
        leaks={
            name: [_leak(one, pictures) for one in leaks[:SHOWN]] for name, leaks in findings.leaks.items()
        },
        named=LISTED,
        data=plan.config.data,
        defects=_defects(findings),
        products=_products(findings),
        product_types=len(findings.table("products", 0)),
        splits={key: count for (key,), count in sorted(findings.table("rows", 0).items(), reverse=True)},
        histograms=[
            _histogram("Shorter side, pixels", _SIZE_NAMES, findings.histogram("size")),
            _histogram("Width to height", _ASPECT_NAMES, findings.histogram("aspect")),
        ],
        codes=findings.table("unreadable", 0).most_common(),
        samples={
            defect: [(pictures[image], pictures[image + 1]) for image in images]
            for defect, images in samples.items()
        },
        distance=plan.config.near_duplicate_distance,
    )


def sheet(pairs: Sequence[tuple[FetchedImage, FetchedImage]]) -> bytes:
    """Return a PNG of some rows: sources above, targets below; a grey tile stands for a missing or unreadable image."""
    blank = _blank()
    strips = [
        Strip(source.image_id, source.product_type, source.pixels or blank, target.pixels or blank)
        for source, target in pairs
    ]
    picture = contact_sheet({"rows": strips}, columns=len(strips))
    return picture or blank


def _blank() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (CELL, CELL), BACKDROP).save(buffer, "PNG")
    return buffer.getvalue()


def _leak(leak: Leak, pictures: Mapping[int, FetchedImage]) -> dict[str, Any]:
    return {
        "test": pictures[leak.test.image],
        "train": pictures[leak.train.image],
        "distance": leak.distance,
        "similarity": leak.similarity,
    }


def _examples(findings: Findings, name: str) -> list[str]:
    """Return one line per example. Every part may be long, so each is shortened on its own."""
    if name in findings.leaks:
        return []  # shown with their pictures
    if name in findings.twins:
        return [f"{_name(one)} and {_name(two)}" for one, two in findings.twins[name][:LISTED]]
    return [f"{_name(one)}: {shorten(one.text)}" for one in findings.tally.examples.get(name, [])[:LISTED]]


def _name(one: FetchedImage | Example) -> str:
    file = one.shard.rsplit("/", 1)[-1]
    return f"{shorten(one.image_id, 60)} ({shorten(one.defect, 40)}, {shorten(file, 60)} row {one.row})"


def _defects(findings: Findings) -> dict[str, dict[tuple[str, str], int]]:
    """Return the number of rows by defect, then by (split, pairing)."""
    counts: dict[str, dict[tuple[str, str], int]] = {}
    for (defect, split, pairing), count in sorted(findings.table("rows", 1, 0, 2).items()):
        counts.setdefault(defect, {})[split, pairing] = count
    return counts


def _products(findings: Findings) -> dict[str, dict[str, Any]]:
    """Return the most frequent product types: rows in all, by defect and by split."""
    by_defect, by_split = findings.table("products", 0, 1), findings.table("products", 0, 2)
    defects = sorted({defect for _, defect in by_defect})
    return {
        name: {
            "all": count,
            "defects": {defect: by_defect[name, defect] for defect in defects},
            "splits": {split: by_split[name, split] for split in ("train", "test")},
        }
        for (name,), count in sorted(
            findings.table("products", 0).items(), key=lambda item: (-item[1], item[0])
        )[:PRODUCT_TYPES]
    }


def _histogram(title: str, names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> _Histogram:
    rows = list(zip(names, counts["source"], counts["target"], strict=True))
    used = [number for number, (_, source, target) in enumerate(rows) if source or target]
    shown = rows[used[0] : used[-1] + 1] if used else []
    return _Histogram(title, shown, max([1, *(max(row[1:]) for row in shown)]))
