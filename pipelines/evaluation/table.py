"""Writes the comparison for people and programs: the same rows as Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.evaluation.contestants import Contestant
from pipelines.evaluation.score import FLOOR, NOTHING, Scores

#: Columns of the CSV. Each end of an interval has a column.
COLUMNS = (
    *("defect", "name", "n", "n_reference", "fid", "fid_ci95_low", "fid_ci95_high"),
    *("kid", "kid_sd", "kid_ci95_low", "kid_ci95_high"),
    *("n_pairs", "psnr", "psnr_ci95_low", "psnr_ci95_high", "l1", "l1_ci95_low", "l1_ci95_high", "note"),
)
#: Definitions of the figures, written into JSON and Markdown.
DEFINITIONS = {
    "answers": "a bundle's edits, made at its own size and applied to the upload at 256x256, as correction applies "
    "them at full size",
    NOTHING: "the uploads as they are",
    FLOOR: "targets of the training split against those of the test split: the score of other photos of perfectly "
    "corrected products. Uploads and answers show the same photos as the targets, so they may score lower",
    "n": "images of the row / test targets that they are compared with",
    "fid": "Frechet distance of Inception features at 256x256; lower is better. It is biased upward below some "
    "2,048 images, more so with fewer images: compare rows of about equal n, and read it together with KID",
    "fid_ci95": "95% interval by the jackknife over groups of photos, each left out of all sets at once: it covers "
    "the random choice of photos at this n, not the bias",
    "kid": "unbiased kernel distance, mean over 100 subsets of at most 1,000 images. Unbiased for sets of different "
    "photos; if both sides show the same photos, it is too low, even negative, more so with fewer photos",
    "kid_sd": "standard deviation between those subsets, as in published tables; it is no error bar, and 0 if a "
    "subset is the whole set",
    "kid_ci95": "95% interval by the two-sample jackknife over images; wider than necessary if both sides show the "
    "same photos",
    "psnr": "dB against the pair's own target at 256x256: mean over exact pairs and its 95% interval",
    "l1": "mean absolute difference from the pair's own target at 256x256 on a scale of -1 to 1, and its 95% interval",
    "relative_reduction": "(FID of the other - FID of the bundle) / FID of the other, mean over the defects that both "
    "correct (Li et al., 2022); 95% interval by the same jackknife, narrower than those of the two FIDs suggest",
}


def to_json(
    scores: Scores,
    contestants: Sequence[Contestant],
    rows: Mapping[str, Mapping[str, int]],
    details: Mapping[str, Any],
) -> str:
    """Return the whole comparison as JSON. rows: numbers of rows of each defect. details: further keys."""
    document = {
        **details,
        "bundles": [_bundle(one) for one in contestants],
        "data_rows": rows,
        "definitions": DEFINITIONS,
        "reductions": [one.to_json() for one in scores.reductions],
        "rows": [one.to_json() for one in scores.rows],
    }
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def to_csv(scores: Scores) -> str:
    """Return a header and a line per row of the table; a null is an empty field."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for score in scores.rows:
        row = score.to_json()
        for name in ("fid", "kid", "psnr", "l1"):
            row[f"{name}_ci95_low"], row[f"{name}_ci95_high"] = row[f"{name}_ci95"] or (None, None)
        writer.writerow(row)
    return buffer.getvalue()


def to_markdown(
    scores: Scores, contestants: Sequence[Contestant], fid_missing: str | None, grids: Iterable[str]
) -> str:
    """Return a page: the bundles, reductions, a table and the picture of each defect, and the definitions.

    grids: defects that have a picture, at grids/<defect>.png.
    """
    count = len(contestants)
    with_grid = set(grids)
    lines = [f"# {count} model bundle{'' if count == 1 else 's'} on the test split", ""]
    lines += _table(
        ("bundle", "recipe", "pixels", "version", "corrects"),
        [
            (one.name, one.recipe, str(one.image_size), one.version[:12], ", ".join(one.conditions))
            for one in contestants
        ],
    )
    lines += ["", *_figures(scores, contestants, fid_missing, with_grid)]
    lines += ["## What the figures are", ""]
    lines += [f"- **{name}**: {text}." for name, text in DEFINITIONS.items()]
    return "\n".join(lines) + "\n"


def summary(scores: Scores, contestants: Sequence[Contestant], fid_missing: str | None) -> str:
    """Return the same tables for a terminal."""
    return "\n".join(_figures(scores, contestants, fid_missing, set()))


def _figures(
    scores: Scores, contestants: Sequence[Contestant], fid_missing: str | None, with_grid: set[str]
) -> list[str]:
    lines = [fid_missing, ""] if fid_missing else _reductions(scores, contestants)
    for defect in dict.fromkeys(score.defect for score in scores.rows):
        lines += _defect(scores, defect, defect in with_grid)
    return lines


def _reductions(scores: Scores, contestants: Sequence[Contestant]) -> list[str]:
    """Return a table with a row per bundle and a column per baseline."""
    reductions = {(one.name, one.against): one.to_json() for one in scores.reductions}
    names = [one.name for one in contestants]
    baselines = [NOTHING, *(names if len(names) > 1 else [])]

    def cell(name: str, against: str) -> str:
        one = reductions.get((name, against))
        if one is None:
            return "–"
        interval = "" if one["ci95"] is None else f" ({one['ci95'][0]:.1%} to {one['ci95'][1]:.1%})"
        return f"{one['relative_reduction']:.1%}{interval}, {len(one['by_defect'])} defects"

    table = _table(
        ("mean relative reduction of FID", *(f"against {name}" for name in baselines)),
        [(name, *(cell(name, against) for against in baselines)) for name in names],
    )
    return [*table, ""]


def _defect(scores: Scores, defect: str, has_grid: bool) -> list[str]:
    rows = []
    notes: dict[str, list[str]] = {}
    for score in scores.rows:
        if score.defect != defect:
            continue
        row = score.to_json()
        sd = "" if row["kid_sd"] is None else f" ± {row['kid_sd']:.4f}"
        rows.append(
            (
                row["name"],
                f"{row['n']} / {row['n_reference']}",
                _with_interval(row, "fid", 2),
                _number(row["kid"], 4) + sd,
                _interval(row["kid_ci95"], 4),
                _with_interval(row, "psnr", 2),
                _with_interval(row, "l1", 4),
            )
        )
        for note in score.notes:
            notes.setdefault(note, []).append(score.name)
    header = ("", "n / targets", "FID (95%)", "KID ± sd", "KID 95%", "PSNR dB (95%)", "L1 (95%)")
    lines = [f"## {defect}", "", *_table(header, rows), ""]
    lines += [f"- {_escaped(', '.join(names))}: {note}" for note, names in notes.items()]
    lines += [""] if notes else []
    return [*lines, *([f"![{defect}](grids/{defect}.png)", ""] if has_grid else [])]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns also line up as plain text."""
    cells = [[_escaped(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _with_interval(row: Mapping[str, Any], name: str, digits: int) -> str:
    interval = row[f"{name}_ci95"]
    return _number(row[name], digits) + ("" if interval is None else f" ({_interval(interval, digits)})")


def _interval(ends: Sequence[float] | None, digits: int) -> str:
    return "–" if ends is None else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _bundle(one: Contestant) -> dict[str, Any]:
    return {
        "name": one.name,
        "uri": one.uri,
        "version": one.version,
        "recipe": one.recipe,
        "image_size": one.image_size,
        "defects": list(one.conditions),
    }
