"""Renders the HTML of every report: self-contained pages, without scripts and without network access.

Sellers' text (image ids, product types, labels, error messages) is hostile: the template engine escapes it, control
characters are replaced, long text is shortened, and each piece is isolated from the text direction around it.
"""

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
DASH = "–"  # shown for a value that was not computed

#: Longest id or message on a page; the manifest has the whole text.
MAX_TEXT = 160

# C0 and C1 controls are not allowed in HTML; surrogates come from file names that are not UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@cache
def template(name: str) -> Template:
    """Return a page's template, which escapes its values and raises an error for missing ones."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=format_count,
        share=format_share,
        number=format_number,
        change=format_change,
        duration=format_duration,
        rate=format_rate,
        moment=format_moment,
        words=lambda name: str(name).replace("_", " "),
        shorten=shorten,
        jpeg=lambda data: "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii"),
    )
    return environment.get_template(name)


def _printable(value: Any) -> Any:
    """Return a value that HTML allows: control characters become the replacement character, None a dash."""
    if value is None:
        return DASH
    if isinstance(value, Markup):  # the result of a macro, whose parts passed here before they were escaped
        return value
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else value


def is_finite(value: Any) -> bool:
    """Return True for a number that is neither infinite nor NaN."""
    return value is not None and math.isfinite(value)


def shorten(text: Any, longest: int = MAX_TEXT) -> str:
    """Shorten to at most `longest` characters, by a cut in the middle: ids and messages differ at both ends."""
    text = str(text)
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def format_count(value: int | None) -> str:
    """Format a whole number: 1234567 -> '1,234,567'."""
    return DASH if value is None else f"{value:,}"


def format_share(part: int, whole: int) -> str:
    """Format a share in percent; only an empty part reads as 0%, and only the whole as 100%."""
    if not whole:
        return DASH
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "<0.1%"
    if 99.9 < share < 100:
        return ">99.9%"
    return f"{share:.0f}%" if share == round(share) else f"{share:.1f}%"


def format_number(value: float | None, digits: int) -> str:
    """Format with fixed decimals, separated thousands and a real minus sign; None, NaN and infinity as a dash."""
    if value is None or not is_finite(value):
        return DASH
    text = f"{value:,.{digits}f}"
    if text.strip("-0.,") == "":
        text = text.lstrip("-")  # no negative zero
    return text.replace("-", "−")


def format_change(before: float | None, after: float | None) -> str:
    """Format the relative change in percent with its sign, or a dash if it is not defined."""
    if before is None or after is None or not (is_finite(before) and is_finite(after)) or before <= 0:
        return DASH
    change = 100 * (after - before) / before
    return f"{change:+.0f}%".replace("-", "−") if abs(change) >= 0.5 else "±0%"


def format_duration(seconds: float) -> str:
    """Format a duration: '12.4 s', '3 min 20 s', '1 h 02 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_rate(value: float | None) -> str:
    """Format images per second with about three digits: '0.04', '9.8', '1,210'."""
    return DASH if value is None else format_number(value, 2 if value < 1 else 1 if value < 100 else 0)


def format_moment(moment: datetime) -> str:
    """Format a moment in UTC, to the minute; one without a time zone counts as UTC."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def flatten(configuration: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as rows: ('fid.samples', '10000'). Lists and other values become JSON on one line."""
    rows: list[tuple[str, str]] = []
    for key, value in configuration.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{name}.")
        else:
            rows.append(
                (
                    name,
                    value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False),
                )
            )
    return rows
