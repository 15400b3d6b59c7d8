"""Walk trees of files folder by folder: only the names of one folder are in memory at a time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipelines import storage
from pipelines.storage.file_names import is_image
from pipelines.storage.linked_folders import LinkedFolders, check_links, is_hidden, scan


class Folder(NamedTuple):
    """List one folder below a root. parts: names of the folders that lead to it. files: names of its files, sorted."""

    parts: tuple[str, ...]
    files: tuple[str, ...]

    def key(self, name: str) -> str:
        """Return the path of file `name` relative to the root."""
        return "/".join((*self.parts, name))


def walk(uri: str, flag: str, warn: Callable[[str], None] | None = None) -> Iterator[Folder]:
    """Yield all folders at and below the folder `uri`, each before those in it, in order of names.

    Hidden files (.name) and hidden or private folders (.name, _name) are left out. The order is that of the tuples
    `parts`. Links to local folders are followed, each folder once (`LinkedFolders`); `warn` gets a note about links
    that were not followed. Raises ConfigurationError that names `flag` if a folder cannot be listed, or if a link leads
    nowhere and its name is not that of an image.
    """
    fs, path = storage.resolve(uri)
    links = LinkedFolders(path) if isinstance(fs, LocalFileSystem) else None
    yield from _walk(fs, path, (), flag, links)
    if warn is not None and links is not None and (note := links.note()):
        warn(f"{flag}: {note}")


def _walk(
    fs: AbstractFileSystem, path: str, parts: tuple[str, ...], flag: str, links: LinkedFolders | None
) -> Iterator[Folder]:
    with storage.as_configuration_error(path, flag, "read"):
        folders, files = _remote(fs, path) if links is None else scan(path)
    files = [name for name in files if not name.startswith(".")]
    if links is not None:
        check_links((f"{path.rstrip('/')}/{name}" for name in files if not is_image(name)), flag)
    yield Folder(parts, tuple(sorted(files)))
    del files  # frees the names before the folders below are listed
    for name in sorted(name for name in folders if not is_hidden(name)):
        below = f"{path.rstrip('/')}/{name}"
        if links is None or links.enters(below, folders[name]):
            yield from _walk(fs, below, (*parts, name), flag, links)


def _remote(fs: AbstractFileSystem, path: str) -> tuple[dict[str, bool], list[str]]:
    """List a remote folder in the form of `scan`; remote storages have no links to folders."""
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
