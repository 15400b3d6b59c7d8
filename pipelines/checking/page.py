"""The HTML page and the sample sheets of a check: self-contained, without scripts, in the style of the run's report."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image

from pipelines.checking.config import Plan
from pipelines.checking.findings import KINDS, Findings, Leak
from pipelines.checking.look_again import Seen
from pipelines.checking.tally import SIDES, Example
from pipelines.reports.html import shorten, template
from pipelines.reports.pictures import CELL, GROUND, Strip, contact_sheet

#: Leaks of each kind that are shown with pictures: two of 8 KB each. health.json names more.
SHOWN = 24
#: Examples of a finding, and product types, that the page lists.
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
    """Rows of (bin, source images, target images), and the largest of these."""

    title: str
    rows: list[tuple[str, int, int]]
    largest: int


def render(
    plan: Plan, findings: Findings, pictures: Mapping[int, Seen], samples: Mapping[str, Sequence[int]]
) -> str:
    """The page as HTML text: the same findings give the same page.

    pictures: JPEG of the leaks that are shown and of the samples' images, as far as they can be read. samples: by
    defect, source images by number.
    """
    return template("health.html.j2").render(
        findings=findings,
        kinds=KINDS,
        examples={name: _examples(findings, name) for name in KINDS},
        leaks={
            name: [_leak(one, pictures) for one in found[:SHOWN]] for name, found in findings.leaks.items()
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


def sheet(pairs: Sequence[tuple[Seen, Seen]]) -> bytes:
    """PNG of some rows: sources above, targets below; grey where there is no image, or no readable one."""
    blank = _blank()
    strips = [
        Strip(source.image_id, source.product_type, source.pixels or blank, target.pixels or blank)
        for source, target in pairs
    ]
    found = contact_sheet({"rows": strips}, columns=len(strips))
    return found or blank


def _blank() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (CELL, CELL), GROUND).save(buffer, "PNG")
    return buffer.getvalue()


def _leak(leak: Leak, pictures: Mapping[int, Seen]) -> dict[str, Any]:
    return {
        "test": pictures[leak.test.image],
        "train": pictures[leak.train.image],
        "distance": leak.distance,
        "similarity": leak.similarity,
    }


def _examples(findings: Findings, name: str) -> list[str]:
    """One line each, shortened piece by piece: any of them may be long."""
    if name in findings.leaks:
        return []  # shown with their pictures
    if name in findings.twins:
        return [f"{_name(one)} and {_name(two)}" for one, two in findings.twins[name][:LISTED]]
    return [f"{_name(one)}: {shorten(one.text)}" for one in findings.tally.examples.get(name, [])[:LISTED]]


def _name(one: Seen | Example) -> str:
    file = one.shard.rsplit("/", 1)[-1]
    return f"{shorten(one.image_id, 60)} ({shorten(one.defect, 40)}, {shorten(file, 60)} row {one.row})"


def _defects(findings: Findings) -> dict[str, dict[tuple[str, str], int]]:
    """Rows by defect, then by (split, pairing)."""
    found: dict[str, dict[tuple[str, str], int]] = {}
    for (defect, split, pairing), count in sorted(findings.table("rows", 1, 0, 2).items()):
        found.setdefault(defect, {})[split, pairing] = count
    return found


def _products(findings: Findings) -> dict[str, dict[str, Any]]:
    """The most frequent product types: rows in all, by defect and by split."""
    by_defect, by_split = findings.table("products", 0, 1), findings.table("products", 0, 2)
    defects = sorted({defect for _, defect in by_defect})
    return {
        name: {
            "all": count,
            "defects": {defect: by_defect[name, defect] for defect in defects},
            "splits": {split: by_split[name, split] for split in ("train", "test")},
        }
        for (name,), count in sorted(
            findings.table("products", 0).items(), key=lambda found: (-found[1], found[0])
        )[:PRODUCT_TYPES]
    }


def _histogram(title: str, names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> _Histogram:
    rows = list(zip(names, counts["source"], counts["target"], strict=True))
    used = [number for number, (_, source, target) in enumerate(rows) if source or target]
    shown = rows[used[0] : used[-1] + 1] if used else []
    return _Histogram(title, shown, max([1, *(max(row[1:]) for row in shown)]))
