"""What a preparation came to, for a program (`report.json`) and for a person (`index.html`, and pictures of masks).

The page is there to judge --min-quality by: how mask quality is distributed, and on either side of the threshold the
pairs that are closest to it. Everything in it is bounded, and all text that comes from the data is escaped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import storage
from pipelines.contact_sheet import picture_columns
from pipelines.dataset.totals import QUALITY_BINS, Example, Totals, UnitRecord
from pipelines.report import flatten, template

#: Columns of the pictures of masks.
COLUMNS = 12
#: Product types that the page lists; report.json has all.
TYPES = 20

#: What the keys of `counts["entries"]` and of the like mean, in the order of the page.
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
#: The measures of `mask_quality`, as a sentence about what is wrong.
MEASURES = {
    "certainty": "undecided mask",
    "area": "product too small or too large",
    "border_contact": "cut by the border",
    "whole": "in pieces",
    "contrast": "blends into the background",
    "semi_transparent": "see-through",
}


@dataclass(frozen=True)
class Preparation:
    """A dataset after a run."""

    record: UnitRecord
    min_quality: float
    fingerprint: str
    duplicate_examples: Sequence[str]
    notes: Sequence[str]
    configuration: Mapping[str, Any]
    seconds: float
    defects: Sequence[str] = ()  # of the label map


def write_report(folder: str, preparation: Preparation) -> str:
    """Write the report to `folder` (a URI); returns the page's URI. Raises one of storage.STORAGE_ERRORS."""
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
    """The content of report.json."""
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
    """The page as HTML text: the same preparation gives the same page."""
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
        tasks=tasks(preparation.record.totals, preparation.defects),
        types=types[:TYPES],
        types_left=len(types[TYPES:]),
        bins=[{"from": n / QUALITY_BINS, "n": count} for n, count in enumerate(bins)],
        highest=max([1, *bins]),
        groups=_groups(preparation.record),
        unreadable=listed_unreadable(preparation.record.totals),
        configuration=flatten(preparation.configuration),
    )


def mask_sheet(examples: Sequence[Example]) -> bytes | None:
    """A PNG: photo, mask and composite in columns, with quality and the lowest measure; None for no example."""
    chosen = examples[:COLUMNS]
    return picture_columns(
        [(example.source, example.mask, example.composite) for example in chosen],
        [
            f"{example.quality:.2f} {example.lowest.replace('_', ' ') if example.quality < 1 else ''}".strip()
            for example in chosen
        ],
    )


def histogram(totals: Totals) -> list[int]:
    """Masks by quality: QUALITY_BINS counts over [0, 1]."""
    return [totals.counts[f"quality/{number:02}"] for number in range(QUALITY_BINS)]


def tasks(totals: Totals, defects: Sequence[str] = ()) -> dict[str, dict[str, int]]:
    """Defect -> 'paired train', 'paired test', 'unpaired train', 'unpaired test' -> rows; also for those of `defects`
    that have none.
    """
    nothing = {f"{pairing} {split}": 0 for pairing in ("paired", "unpaired") for split in ("train", "test")}
    found: dict[str, dict[str, int]] = {defect: dict(nothing) for defect in sorted(defects)}
    for key, count in sorted(totals.counts.items()):
        kind, *keys = key.split("/")
        if kind == "rows":
            defect, pairing, split, _ = keys
            row = found.setdefault(defect, dict(nothing))
            row[f"{pairing} {split}"] += count
    return found


def listed_unreadable(totals: Totals) -> list[dict[str, str]]:
    """Images that cannot be read, by name; bounded."""
    return [dict(zip(("image_id", "code", "message"), item, strict=True)) for item in totals.unreadable]


def nested(totals: Totals) -> dict[str, Any]:
    """The flat counts as a tree, and the training rows by each of their keys."""
    counts: dict[str, Any] = {}
    for key, n in sorted(totals.counts.items()):
        kind, *keys = key.split("/")
        if kind != "rows":
            counts.setdefault(kind, {})["/".join(keys)] = n
            continue
        rows = counts.setdefault(
            "rows", {name: {} for name in ("defect", "pairing", "split", "product_type", "by_task")}
        )
        defect, pairing, split, product_type = keys
        for name, value in zip(
            rows, (defect, pairing, split, product_type, f"{defect}/{pairing}/{split}"), strict=True
        ):
            rows[name][value] = rows[name].get(value, 0) + n
    return counts


def _groups(record: UnitRecord) -> dict[str, list[Example]]:
    return {"accepted": record.accepted, "rejected": record.rejected}
