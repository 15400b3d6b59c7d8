"""List and remove the files of a large folder by pages: memory does not grow with their number."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipelines import storage
from pipelines.storage.s3 import PAGE, PatientS3


class File(NamedTuple):
    """A file of a listing. size: bytes."""

    uri: str
    size: int


def pages(uri: str, prefix: str = "") -> Iterator[list[File]]:
    """Yield the files at any depth below the folder `uri`, hidden ones too, in pages of at most PAGE files.

    prefix: with which their paths below `uri` begin. Files of a page may be removed before the next page is asked for.
    Raises one of STORAGE_ERRORS.
    """
    fs, path = storage.resolve(uri)
    if isinstance(fs, PatientS3):
        yield from _of_s3(fs, path, prefix)
        return
    files = _of_disk(path, prefix) if isinstance(fs, LocalFileSystem) else _of_others(fs, path, prefix)
    page: list[File] = []
    for file in files:
        page.append(file)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _of_s3(fs: PatientS3, path: str, prefix: str) -> Iterator[list[File]]:
    after: str | None = ""
    while after is not None:
        found, after = fs.page_below(path, after, prefix)
        page = [File(f"s3://{name}", size) for name, size in found if not name.endswith("/")]
        if page:
            yield page


def _of_disk(path: str, prefix: str) -> Iterator[File]:
    for folder, _, names in os.walk(path, onerror=_raise):
        for name in sorted(names):
            file = Path(folder) / name
            if str(file.relative_to(path)).startswith(prefix):
                yield File(str(file), file.lstat().st_size)


def _raise(error: OSError) -> None:
    """Raise for a folder that cannot be listed, whose files would otherwise seem to be gone."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _of_others(fs: AbstractFileSystem, path: str, prefix: str) -> Iterator[File]:
    for name, info in fs.find(path, detail=True).items() if fs.exists(path) else ():
        if name[len(path) :].lstrip("/").startswith(prefix):
            yield File(fs.unstrip_protocol(name), info.get("size") or 0)


def folders(uri: str) -> list[str]:
    """Return the names of the folders in the folder `uri`, sorted; none if there is no such folder.

    Raises one of STORAGE_ERRORS.
    """
    fs, path = storage.resolve(uri)
    if not fs.isdir(path):
        return []
    infos: list[dict[str, Any]] = fs.ls(path, detail=True)
    return sorted(
        info["name"].rstrip("/").rsplit("/", 1)[-1] for info in infos if info["type"] == "directory"
    )


def remove_files(uris: Iterable[str]) -> None:
    """Remove files of one storage, those that are gone already excepted. Raises one of STORAGE_ERRORS."""
    listed = list(uris)
    for start in range(0, len(listed), PAGE):
        _remove_page(listed[start : start + PAGE])


def _remove_page(uris: Sequence[str]) -> None:
    fs, _ = storage.resolve(uris[0])
    paths = [storage.resolve(uri)[1] for uri in uris]
    if isinstance(fs, PatientS3):
        fs.remove_page(paths)
        return
    for path in paths:
        try:
            fs.rm_file(path)
        except FileNotFoundError:
            continue
