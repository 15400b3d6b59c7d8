"""Tables of figures, as markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

#: Caption and format of each figure of `scores.summary`. KID is added from fid.json.
FIGURES: Mapping[str, tuple[str, str]] = {
    "n": ("images", "d"),
    "rejected": ("rejected by a gate", ".0%"),
    "gates": ("by gate", ""),
    "measured": ("published and measured", "d"),
    "iou_mean": ("IoU of what is kept, mean", ".3f"),
    "iou_median": ("median", ".3f"),
    "iou_poor": ("share below .9", ".0%"),
    "psnr": ("PSNR to the perfect composite, dB", ".1f"),
    "before": ("dB under the mark, before", ".1f"),
    "after": ("after", ".1f"),
    "gain": ("gain, dB", "+.1f"),
    "whole_before": ("dB of the whole image, before", ".1f"),
    "whole_after": ("after (whole image)", ".1f"),
    "before_median": ("degrees turned, median", ".1f"),
    "left_median": ("degrees left, median", ".1f"),
    "left_90": ("90% quantile", ".1f"),
    "touched_mean": ("share of the product touched, mean", ".2%"),
    "touched_90": ("90% quantile (share)", ".2%"),
    "change": ("mean change, levels", ".2f"),
    "kid": ("KID before, after", ""),
}


def table(columns: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return markdown: a section per task and kind of goods, a column per bundle or baseline, a line per figure.

    columns: `scores.summary` by name, task and kind, with `kid` if it was computed.
    """
    sections = dict.fromkeys(
        (task, kind) for by_task in columns.values() for task, kinds in by_task.items() for kind in kinds
    )
    return "\n\n".join(
        _section(task, kind, {name: by_task.get(task, {}).get(kind) for name, by_task in columns.items()})
        for task, kind in sections
    )


def _section(task: str, kind: str, columns: Mapping[str, Mapping[str, Any] | None]) -> str:
    present = {name: summary for name, summary in columns.items() if summary is not None}
    lines = [f"**{task}: {kind}**", "", _line(["", *present]), _line(["---"] * (1 + len(present)))]
    for figure, (text, form) in FIGURES.items():
        cells = [_cell(summary.get(figure), form) for summary in present.values()]
        if any(cells):
            lines.append(_line([text, *cells]))
    return "\n".join(lines)


def _cell(value: Any, form: str) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {count}" for name, count in sorted(value.items(), key=lambda item: -item[1])
        )
    return str(value) if not form else format(value, form)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
