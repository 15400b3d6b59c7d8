"""Ends code at its n-th change of the storage, as SIGKILL would."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import storage
from pipelines.storage import pages


class KilledError(Exception):
    """Simulates SIGKILL."""


def changes(monkeypatch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Make the `at`-th change of the storage raise KilledError instead; return the changes, as they are made."""
    made: list[str] = []

    def counted(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            if "/.lock" not in str(arguments[0]):  # its changes have no fixed place among the others
                if len(made) == at:
                    raise KilledError
                made.append(f"{name} {arguments[0]}")
            return change(*arguments)

        return wrapper

    for name in ("remove", "move", "copy", "write_bytes"):
        monkeypatch.setattr(storage, name, counted(name, getattr(storage, name)))
    monkeypatch.setattr(pages, "_remove_page", counted("remove_page", pages._remove_page))
    monkeypatch.setattr(Path, "rename", counted("rename", Path.rename))
    return made


def every_change(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> Iterator[list[str]]:
    """Call `act` again and again, killed one change later each time, until it is not; yield after each death."""
    for at in range(1000):
        with monkeypatch.context() as patch:
            made = changes(patch, at)
            try:
                act()
            except KilledError:
                pass
            else:
                return
        yield made
