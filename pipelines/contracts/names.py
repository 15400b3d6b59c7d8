"""Makes messages about unknown names: the name that was probably meant, and the known names."""

import difflib
from collections.abc import Collection, Iterable

from model.errors import ConfigurationError


def suggestion(name: str, known: Collection[str]) -> str:
    """Return a question such as "did you mean 'angle'?" if a known name is close to `name`, else an empty text."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def choices(name: str, known: Collection[str], lead: str) -> str:
    """Return the suggestion, if there is one, and the known names after `lead`, such as 'it has background, angle'."""
    return f"{suggestion(name, known)} {lead} {', '.join(known)}".lstrip()


def not_in_label_map(kind: str, name: str, known: Collection[str]) -> str:
    """Return the message that the label map lacks a name. kind: 'defect' or 'group'; known: the names that it has."""
    return f"the label map has no {kind} {name!r}; {choices(name, known, 'it has')}"


def check_names(flag: str, kind: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raise ConfigurationError, which starts with `flag`, for the first of `names` that the label map lacks."""
    for name in names:
        if name not in known:
            raise ConfigurationError(f"{flag}: {not_in_label_map(kind, name, known)}")
