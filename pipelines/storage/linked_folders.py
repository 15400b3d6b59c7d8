"""Follow symbolic links to local folders, so that each real folder is read once."""

import os
from collections.abc import Iterable

from model.errors import ConfigurationError

#: Number of links that a note names; it counts all.
_EXAMPLES = 3


def is_hidden(name: str) -> bool:
    """Return True for markers and writes in progress: files and folders named .name or _name.

    A partition's folder (`_column=value`) is not hidden.
    """
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


class LinkedFolders:
    """The folders that one walk enters, chosen so that it reads each real folder once and ends.

    A folder that the walk reaches without links keeps that name even if links lead to it: names become ids, and a new
    link must not rename images. Keeps one path in memory for each link that is followed.
    """

    def __init__(self, root: str) -> None:
        """Begin a walk of the folder `root`, which may itself be a link."""
        self._root = root
        self._entered = {os.path.realpath(root)}  # targets of links; each is walked completely
        self._skipped = 0
        self._examples: list[str] = []

    def enters(self, folder: str, is_link: bool) -> bool:
        """Return whether the walk reads `folder` next; call it in the order of the walk."""
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
        """Return whether a walk of the links' targets reaches `real` anyway; it leaves hidden folders out."""
        while real not in self._entered:
            parent, name = os.path.split(real)
            if parent == real or is_hidden(name):
                return False
            real = parent
        return True

    def note(self) -> str | None:
        """Return a message about links that were not followed; None if there were none."""
        if not self._skipped:
            return None
        return (
            f"{self._skipped} links to folders below {self._root} are not followed again, since what they lead to is "
            f"read by another name: {', '.join(self._examples)}{', …' if self._skipped > _EXAMPLES else ''}"
        )


def check_links(names: Iterable[str], flag: str) -> None:
    """Raise ConfigurationError, naming `flag`, for a link without a target, such as a disk that is not mounted.

    names: entries without the suffix of a file that is read; a link among them may mean a whole folder.
    """
    for name in names:
        if os.path.islink(name) and not os.path.exists(name):  # noqa: PTH110, PTH114 (may be a URI)
            raise ConfigurationError(
                f"{flag}: {name} is a link, and what it leads to is not there ({os.readlink(name)}); "  # noqa: PTH115
                "see that it is mounted, or remove the link"
            )


def scan(folder: str) -> tuple[dict[str, bool], list[str]]:
    """Return the folders in `folder`, with whether each is a link, and the names of all else, in no order.

    Raises OSError, also for a link that leads to itself.
    """
    folders, files = {}, []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                folders[entry.name] = entry.is_symlink()
            else:
                files.append(entry.name)
    return folders, files
