"""The report on a preparation: `report.json` for programs, `index.html` with pictures of masks for people.

Use the page to judge --min-quality: it shows the distribution of mask quality, and the pairs closest to the threshold
on either side. Everything in it is bounded, and all text that comes from the data is escaped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import storage
from pipelines.preparation.totals import QUALITY_BINS, Example, Totals, UnitRecord
from pipelines.reports.html import flatten, template
from pipelines.reports.pictures import picture_columns

#: Columns of the pictures of masks.
COLUMNS = 12
#: Product types that the page lists; report.json has all.
TYPES = 20

#: Captions for the keys of `counts["entries"]` and `counts["masks"]`, in the order of the page.
ENTRIES = {
    "prepared": "Prepared",
    "unreadable": "Cannot be read",
    "duplicates": "Duplicate ids",
}
MASKS = {
    "good": "Given with the photo, trusted",
    "doubtful": "Given with the photo, below the threshold",
    "saliency_good": "Made by --saliency, trusted",
    "saliency_doubtful": "Made by --saliency, below the threshold",
    "missing": "No mask came with the photo",
    "unreadable": "The mask that came is absent or cannot be read",
    "wrong_size": "The mask that came had another size than the photo",
}
#: Captions for the measures of `mask_quality`, worded as the fault.
MEASURES = {
    "certainty": "undecided mask",
    "area": "product too small or too large",
    "border_contact": "cut by the border",
    "whole": "in pieces",
    "contrast": "blends into the background",
    "separation": "shares its colours with the background",
    "semi_transparent": "see-through",
}


@dataclass(frozen=True)
class Preparation:
    """A prepared dataset, as the report describes it."""

    record: UnitRecord
    min_quality: float
    fingerprint: str
    duplicate_examples: Sequence[str]
    notes: Sequence[str]
    configuration: Mapping[str, Any]
    seconds: float
    defects: Sequence[str] = ()  # of the label map


def write_report(folder: str, preparation: Preparation) -> str:
    """Write the report to `folder` (a URI) and return the page's URI. Raises one of storage.STORAGE_ERRORS."""
    document = json.dumps(summarise(preparation), indent=2, sort_keys=True) + "\n"
    storage.write_bytes(storage.join(folder, "report.json"), document.encode())
    for name, examples in _groups(preparation.record).items():
        picture = mask_sheet(examples)
        if picture is not None:
            storage.write_bytes(storage.join(folder, f"masks_{name}.png"), picture)
    uri = storage.join(folder, "index.html")
    storage.write_bytes(uri, render(preparation).encode())
    return uri


def summarise(preparation: Preparation) -> dict[str, Any]:
    """Return the content of report.json."""
    totals = preparation.record.totals
    return {
        "fingerprint": preparation.fingerprint,
        "counts": nested(totals),
        "unreadable": listed_unreadable(totals),
        "duplicates": list(preparation.duplicate_examples),
        "notes": list(preparation.notes),
        "min_quality": preparation.min_quality,
        "mask_quality": {"bins": QUALITY_BINS, "range": [0, 1], "counts": histogram(totals)},
        "masks": {
            name: [
                {
                    "image_id": example.image_id,
                    "quality": round(example.quality, 4),
                    "lowest": example.lowest,
                    "origin": example.origin,
                }
                for example in examples
            ]
            for name, examples in _groups(preparation.record).items()
        },
    }


def render(preparation: Preparation) -> str:
    """Return the page as HTML text. The same preparation gives the same page."""
    counts = nested(preparation.record.totals)
    bins = histogram(preparation.record.totals)
    rows = counts.get("rows", {})
    types = sorted(rows.get("product_type", {}).items(), key=lambda item: (-item[1], item[0]))
    return template("preparation.html.j2").render(
        it=preparation,
        counts=counts,
        entries=ENTRIES,
        masks=MASKS,
        measures=MEASURES,
        defects=rows_of_defects(preparation.record.totals, preparation.defects),
        types=types[:TYPES],
        types_left=len(types[TYPES:]),
        bins=[{"from": n / QUALITY_BINS, "n": count} for n, count in enumerate(bins)],
        highest=max([1, *bins]),
        groups=_groups(preparation.record),
        unreadable=listed_unreadable(preparation.record.totals),
        configuration=flatten(preparation.configuration),
    )


def mask_sheet(examples: Sequence[Example]) -> bytes | None:
    """Return a PNG of photo, mask and composite in columns, with quality and lowest measure; None without examples."""
    chosen = examples[:COLUMNS]
    return picture_columns(
        [(example.source, example.mask, example.composite) for example in chosen],
        [
            f"{example.quality:.2f} {example.lowest.replace('_', ' ') if example.quality < 1 else ''}".strip()
            for example in chosen
        ],
    )


def histogram(totals: Totals) -> list[int]:
    """Return the number of masks by quality: QUALITY_BINS counts over [0, 1]."""
    return [totals.counts[f"quality/{number:02}"] for number in range(QUALITY_BINS)]


def rows_of_defects(totals: Totals, defects: Sequence[str] = ()) -> dict[str, dict[str, int]]:
    """Return rows by defect, then by 'paired train', 'paired test', 'unpaired train' and 'unpaired test'.

    Those of `defects` without rows are included.
    """
    nothing = {f"{pairing} {split}": 0 for pairing in ("paired", "unpaired") for split in ("train", "test")}
    by_defect: dict[str, dict[str, int]] = {defect: dict(nothing) for defect in sorted(defects)}
    for key, count in sorted(totals.counts.items()):
        kind, *keys = key.split("/")
        if kind == "rows":
            defect, pairing, split, _ = keys
            row = by_defect.setdefault(defect, dict(nothing))
            row[f"{pairing} {split}"] += count
    return by_defect


def listed_unreadable(totals: Totals) -> list[dict[str, str]]:
    """Return images that cannot be read, by name; bounded."""
    return [dict(zip(("image_id", "code", "message"), item, strict=True)) for item in totals.unreadable]


def nested(totals: Totals) -> dict[str, Any]:
    """Return the flat counts as a tree, and the training rows counted by each of their keys."""
    counts: dict[str, Any] = {}
    for key, n in sorted(totals.counts.items()):
        kind, *keys = key.split("/")
        if kind != "rows":
            counts.setdefault(kind, {})["/".join(keys)] = n
            continue
        rows = counts.setdefault(
            "rows", {name: {} for name in ("defect", "pairing", "split", "product_type", "by_defect")}
        )
        defect, pairing, split, product_type = keys
        for name, value in zip(
            rows, (defect, pairing, split, product_type, f"{defect}/{pairing}/{split}"), strict=True
        ):
            rows[name][value] = rows[name].get(value, 0) + n
    return counts


def _groups(record: UnitRecord) -> dict[str, list[Example]]:
    return {"accepted": record.accepted, "rejected": record.rejected}
