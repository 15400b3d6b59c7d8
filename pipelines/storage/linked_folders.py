"""Walks of local folders that follow symbolic links to folders, and read each real folder once."""

import os
from collections.abc import Iterable

from model.errors import ConfigurationError

#: Links that a note names; all are counted.
_EXAMPLES = 3


def is_hidden(name: str) -> bool:
    """True for files and folders that are markers, or writes in progress: .name and _name. A folder of a partition
    (`_column=value`) is none.
    """
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


class LinkedFolders:
    """Which folders one walk enters, so that it reads each real folder once and comes to an end.

    A folder that the walk reaches without links keeps that name, wherever links to it stand: names become ids, and a
    new link must not rename images. Holds one path for each link that is followed.
    """

    def __init__(self, root: str) -> None:
        """A walk of the folder `root`, which may be a link itself."""
        self._root = root
        self._entered = {
            os.path.realpath(root)
        }  # where links have led, and what they lead to is walked whole
        self._skipped = 0
        self._examples: list[str] = []

    def enters(self, folder: str, is_link: bool) -> bool:
        """Whether the walk reads `folder` next; to be asked in the order of the walk."""
        if not is_link and len(self._entered) == 1:
            return True
        real = os.path.realpath(folder)
        if self._is_reached(real) if is_link else real in self._entered:
            self._skipped += 1
            if len(self._examples) < _EXAMPLES:
                self._examples.append(folder)
            return False
        if is_link:
            self._entered.add(real)
        return True

    def _is_reached(self, real: str) -> bool:
        """Whether a walk from where links have led comes to `real` by itself: it leaves hidden folders out."""
        while real not in self._entered:
            parent, name = os.path.split(real)
            if parent == real or is_hidden(name):
                return False
            real = parent
        return True

    def note(self) -> str | None:
        """What to tell of links that were not followed; None where there were none."""
        if not self._skipped:
            return None
        return (
            f"{self._skipped} links to folders below {self._root} are not followed again, since what they lead to is "
            f"read by another name: {', '.join(self._examples)}{', …' if self._skipped > _EXAMPLES else ''}"
        )


def check_links(names: Iterable[str], flag: str) -> None:
    """Raise ConfigurationError, naming `flag`, for a link that leads nowhere, as to a disk that is not mounted.

    names: of what is no file to be read by its name; a link among them may stand for a whole folder.
    """
    for name in names:
        if os.path.islink(name) and not os.path.exists(name):  # noqa: PTH110, PTH114 (may be a URI)
            raise ConfigurationError(
                f"{flag}: {name} is a link, and what it leads to is not there ({os.readlink(name)}); "  # noqa: PTH115
                "see that it is mounted, or remove the link"
            )


def scan(folder: str) -> tuple[dict[str, bool], list[str]]:
    """The folders in `folder`, with whether each is a link, and the names of everything else; in no order.

    Raises OSError, also for a link that leads to itself.
    """
    folders, files = {}, []
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir():
                folders[entry.name] = entry.is_symlink()
            else:
                files.append(entry.name)
    return folders, files
