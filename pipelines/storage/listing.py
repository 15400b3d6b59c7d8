"""List files: those of a folder, those that match a pattern, and a remote folder as a local copy."""

import logging
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from model.errors import ConfigurationError
from pipelines.storage.errors import WILDCARDS
from pipelines.storage.linked_folders import LinkedFolders, is_hidden, scan
from pipelines.storage.objects import exists
from pipelines.storage.uris import resolve

logger = logging.getLogger(__name__)


def list_files(uri: str, suffix: str = "", follow_links: bool = False) -> list[str]:
    """Return the URIs of all files at or below `uri` whose names end with `suffix`, sorted; empty if there are none.

    Files and folders below `uri` whose names begin with . or _ are left out: markers, and writes in progress.
    follow_links: enter links to local folders, each folder once (`LinkedFolders`). Do not use it on files that will be
    removed, because links lead out of `uri`. Raises one of STORAGE_ERRORS.
    """
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem):
        links = LinkedFolders(path) if follow_links else None
        names = sorted(name for name in _local_files(path, links) if name.endswith(suffix))
        if links is not None and (note := links.note()):
            logger.warning("%s", note)
        return names
    names = [name for name in _files_below(fs, path) if name.endswith(suffix)]
    return [fs.unstrip_protocol(name) for name in names if not _is_hidden(name[len(path) :])]


def _local_files(path: str, links: LinkedFolders | None) -> Iterator[str]:
    if Path(path).is_dir():
        yield from _files_in(path, links)
    elif Path(path).exists():
        yield path


def _files_in(folder: str, links: LinkedFolders | None) -> Iterator[str]:
    try:
        folders, files = scan(folder)
    except FileNotFoundError:  # removed since its parent was listed
        return
    yield from (f"{folder.rstrip('/')}/{name}" for name in files if not is_hidden(name))
    for name in sorted(name for name in folders if not is_hidden(name)):
        below, is_link = f"{folder.rstrip('/')}/{name}", folders[name]
        if not is_link if links is None else links.enters(below, is_link):
            yield from _files_in(below, links)


def is_pattern(uri: str) -> bool:
    """Return whether `uri` has wildcards and is not itself the name of a file. Raises one of STORAGE_ERRORS."""
    return WILDCARDS.search(uri) is not None and not exists(uri)


def files_matching(pattern: str) -> list[str]:
    """Return the URIs of the files that match `pattern`, and of those below folders that match it, sorted.

    Wildcards are those of a shell: * and ? for characters of one name, [a-z] for one of several. A name that begins
    with . or _ matches only if the pattern's part begins with it too. Raises ConfigurationError for **, and one of
    STORAGE_ERRORS.
    """
    fs, path = resolve(pattern)
    if "**" in path:
        raise ConfigurationError(
            f"{pattern}: ** is not supported; name the folder, and all files in it are read"
        )
    if isinstance(fs, LocalFileSystem):
        matches = _local_matches(path)
    else:
        matches = {name: info["type"] == "directory" for name, info in fs.glob(path, detail=True).items()}
    files: list[str] = []
    for name, is_folder in matches.items():
        parts = zip(name.split("/"), path.split("/"), strict=False)
        if not any(is_hidden(part) and wanted[:1] != part[0] for part, wanted in parts):
            uri = name if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(name)
            files += list_files(uri, follow_links=True) if is_folder else [uri]
    return sorted(files)


def _local_matches(pattern: str) -> dict[str, bool]:
    """Return the paths that match an absolute pattern, each with whether it is a folder.

    Python's own globbing silently skips folders that may not be read, and fsspec's skips links to folders.
    """
    parents = {"": True}
    for wanted in pattern.strip("/").split("/"):
        matches: dict[str, bool] = {}
        for folder in (path for path, is_folder in parents.items() if is_folder):
            if WILDCARDS.search(wanted):
                folders, files = scan(folder or "/")
                names = [name for name in (*folders, *files) if fnmatchcase(name, wanted)]
                matches |= {f"{folder}/{name}": name in folders for name in names}
            elif Path(f"{folder}/{wanted}").exists():
                matches[f"{folder}/{wanted}"] = Path(f"{folder}/{wanted}").is_dir()
        parents = matches
    return parents


def fetch_folder(uri: str, destination: Path) -> Path:
    """Return a local folder with the files of `uri`: `uri` itself if it is local, else a copy in `destination`.

    Raises one of STORAGE_ERRORS, and ConfigurationError if a remote `uri` has no files, or if the name of an object
    would place its copy outside `destination`.
    """
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem):
        return Path(path)
    names = _files_below(fs, path)
    if not names:
        raise ConfigurationError(f"there is nothing at {uri}; check the bucket and the path")
    for name in names:
        relative = PurePosixPath(name[len(path) :].lstrip("/") or PurePosixPath(name).name)
        if ".." in relative.parts:
            raise ConfigurationError(
                f"{uri} holds an object named {name!r}: it would be written outside its folder"
            )
        local = destination / relative
        local.parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(name, str(local))
    return destination


def _files_below(fs: AbstractFileSystem, path: str) -> list[str]:
    """Return the paths of the files at or below `path`, sorted, without the empty objects that mark folders on S3."""
    infos = fs.find(path, detail=True)
    return sorted(
        name for name, info in infos.items() if info.get("type") != "directory" and not name.endswith("/")
    )


def _is_hidden(relative: str) -> bool:
    return any(is_hidden(part) for part in PurePosixPath(relative.lstrip("/")).parts)
