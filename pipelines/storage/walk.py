"""Trees of files, folder by folder: only one folder's names are in memory."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipelines.storage import objects as storage
from pipelines.storage.file_names import is_image
from pipelines.storage.linked_folders import LinkedFolders, check_links, is_hidden, scan


class Folder(NamedTuple):
    """A folder below a root: its place as names, and its files' names in order."""

    parts: tuple[str, ...]
    files: tuple[str, ...]

    def key(self, name: str) -> str:
        """The path of file `name` from the root."""
        return "/".join((*self.parts, name))


def walk(uri: str, flag: str, tell: Callable[[str], None] | None = None) -> Iterator[Folder]:
    """All folders at and below the folder `uri`, each before those in it, in order of names.

    Without hidden files (.name) and hidden or private folders (.name, _name). The order of `parts` is that of tuples.
    Links to local folders are followed, to each folder once (`LinkedFolders`); `tell` gets a note of the others.
    Raises ConfigurationError that names `flag` where a folder cannot be listed, or a link that is no image by its name
    leads nowhere.
    """
    fs, path = storage.resolve(uri)
    links = LinkedFolders(path) if isinstance(fs, LocalFileSystem) else None
    yield from _walk(fs, path, (), flag, links)
    if tell is not None and links is not None and (note := links.note()):
        tell(f"{flag}: {note}")


def _walk(
    fs: AbstractFileSystem, path: str, parts: tuple[str, ...], flag: str, links: LinkedFolders | None
) -> Iterator[Folder]:
    with storage.as_configuration_error(path, flag, "read"):
        folders, files = _remote(fs, path) if links is None else scan(path)
    files = [name for name in files if not name.startswith(".")]
    if links is not None:
        check_links((f"{path.rstrip('/')}/{name}" for name in files if not is_image(name)), flag)
    yield Folder(parts, tuple(sorted(files)))
    del files  # not while the folders below are read
    for name in sorted(name for name in folders if not is_hidden(name)):
        below = f"{path.rstrip('/')}/{name}"
        if links is None or links.enters(below, folders[name]):
            yield from _walk(fs, below, (*parts, name), flag, links)


def _remote(fs: AbstractFileSystem, path: str) -> tuple[dict[str, bool], list[str]]:
    """As `scan` does it; no storage but a local one has links to folders."""
    folders: dict[str, bool] = {}
    files: list[str] = []
    for info in fs.ls(path, detail=True):
        full = info["name"].rstrip("/")
        name = full.rpartition("/")[2]
        if full != path.rstrip("/") and name and not info["name"].endswith("//"):
            if info["type"] == "directory":
                folders[name] = False
            else:
                files.append(name)
    return folders, files
