"""Trees of images, folder by folder: only one folder's names are in memory."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from model.errors import ConfigurationError
from pipelines.images.uploads import SCHEMES
from pipelines.preparation.readers.base import Counted, Notes
from pipelines.storage import objects as storage
from pipelines.storage.linked_folders import LinkedFolders, check_links, is_hidden, scan

#: What counts as an image by its name. Those that are not decoded are listed too: each is an error with a code in the
#: report, where left out it would go unnoticed.
DECODED_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".heic", ".heif")
IMAGE_SUFFIXES = (*DECODED_SUFFIXES, ".tif", ".tiff", ".jp2", ".psd", ".svg")


class Folder(NamedTuple):
    """A folder below a root: its place as names, and its files' names in order."""

    parts: tuple[str, ...]
    files: tuple[str, ...]

    def key(self, name: str) -> str:
        """The path of file `name` from the root."""
        return "/".join((*self.parts, name))


def check_folder(uri: str, flag: str) -> None:
    """Raise ConfigurationError, naming `flag`, unless `uri` is a folder that can be read, of local files or s3://."""
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    if scheme not in SCHEMES:
        raise ConfigurationError(f"{flag}: {uri}: images are read from local folders, file:// and s3:// only")
    storage.check_readable(uri, flag)
    with storage.as_configuration_error(uri, flag, "read"):
        fs, path = storage.resolve(uri)
        if not fs.isdir(path):
            raise ConfigurationError(f"{flag}: {uri} is a file; name the folder with the images")


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


def walk_images(uri: str, flag: str, notes: Notes) -> Iterator[Folder]:
    """`walk` with images alone, and only folders that have some; what is left out is noted.

    Raises ConfigurationError, also where there is no image at all.
    """
    others, unnameable, found = Counted(), Counted(), False
    for folder in walk(uri, flag, notes.add):
        images = []
        for name in folder.files:
            if not is_image(name):
                others.add(folder.key(name))
            elif not _is_text(folder.key(name)):
                unnameable.add(ascii(folder.key(name)))
            else:
                images.append(name)
        if images:
            found = True
            yield Folder(folder.parts, tuple(images))
    if others.count:
        notes.add(f"{flag}: {others.count} files below {uri} are no images by their names: {others}")
    if unnameable.count:
        notes.add(
            f"{flag}: {unnameable.count} images below {uri} are left out, since their names are not UTF-8 (rename "
            f"them): {unnameable}"
        )
    if not found:
        raise no_images(uri, flag)


def check_images(uri: str, flag: str) -> None:
    """Raise ConfigurationError unless `uri` is a folder with at least one image; looks no further than that."""
    check_folder(uri, flag)
    if not any(is_image(name) for folder in walk(uri, flag) for name in folder.files):
        raise no_images(uri, flag)


def no_images(uri: str, flag: str) -> ConfigurationError:
    """The complaint about a folder without images."""
    return ConfigurationError(
        f"{flag}: no images at {uri}; images are files named {', '.join(DECODED_SUFFIXES)}, at any depth"
    )


def is_image(name: str) -> bool:
    """True for the names of image files."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def stem(name: str) -> str:
    """A file's name without its extension."""
    return name.rpartition(".")[0]


def _is_text(name: str) -> bool:
    return name.encode("utf-8", "ignore").decode() == name
