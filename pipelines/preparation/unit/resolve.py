"""Turns entries into records: fetches the encoded bytes that an entry names.

Files are fetched ahead, a few at once; cells of parquet files are streamed. A fault of one image is its record's error.
Only a table that cannot be read at all ends the run: it is no image's fault, and a retry may succeed.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.cluster.ahead import map_ahead
from pipelines.images.decode import ImageError
from pipelines.images.decode_apart import decode_image_apart
from pipelines.images.encode import encode_image
from pipelines.images.uploads import read_image
from pipelines.preparation.entries import LEFT, Entry, Locator, Record
from pipelines.preparation.unit.cells import Cells
from pipelines.storage.file_uris import is_file_uri

#: Entries whose files are fetched ahead. Each may hold several images of up to 32 MB.
FETCH_THREADS = 8

#: The error code of `uploads.read_image` if an image is neither missing nor forbidden.
STORAGE_FAILED = "unreadable"
ROLES = ("source", "target", "mask")

_Fetched = Mapping[str, bytes | ImageError]  # by URI


@dataclass(frozen=True)
class _Halves:
    """The last picture that was cut, because its two halves are asked for one after the other."""

    whole: Locator  # without its part
    pixels: np.ndarray  # (H, W, 3) uint8


def records(entries: Iterable[Entry]) -> Iterator[Record]:
    """Yield the record of each entry, in order.

    A half of a picture (LEFT, RIGHT) is PNG, lossless; all other bytes are as stored. A null cell counts as if the
    entry had not named it; an entry without any image has the error `no_image`. Other errors are the codes of
    `uploads.read_image`, and for halves those of `decode.decode_image` and `odd_width`. If only the mask cannot be
    read, the record has none and the code is in `mask_error`, unless storage failed.

    Raises StorageReadError if a parquet file cannot be read, ChangedSourceError if it was rewritten.
    """
    with Cells() as cells:
        for entry, files in map_ahead(_fetch_files, entries, FETCH_THREADS):
            yield _record(entry, files, cells)


def _fetch_files(entry: Entry) -> _Fetched:
    """Return the files that the entry names, each read once."""
    uris = {locator.uri for locator in _locators(entry).values() if locator.row is None}
    return {uri: _read(uri) for uri in uris}


def _read(uri: str) -> bytes | ImageError:
    try:
        return read_image(uri)
    except ImageError as error:
        return error


def _locators(entry: Entry) -> dict[str, Locator]:
    return {role: locator for role in ROLES if (locator := getattr(entry, role)) is not None}


def _record(entry: Entry, files: _Fetched, cells: Cells) -> Record:
    locators, mask_error = _locators(entry), None
    reader = _Images(files, cells)
    try:
        images = {role: reader.read(role, locators[role]) for role in ROLES[:2] if role in locators}
        if not any(data is not None for data in images.values()):
            raise ImageError("no_image", "there is neither image bytes nor a uri")
        if "mask" in locators:
            try:
                images["mask"] = reader.read("mask", locators["mask"])
            except ImageError as error:
                if error.code == STORAGE_FAILED:  # a retry may succeed
                    raise
                mask_error = error.code
    except ImageError as error:
        return Record(entry, error=(error.code, str(error)))
    return Record(
        entry, images.get("source"), images.get("target"), images.get("mask"), mask_error=mask_error
    )


class _Images:
    """The images of one entry; each picture is fetched and cut once."""

    def __init__(self, files: _Fetched, cells: Cells) -> None:
        self._files, self._cells = files, cells
        self._whole: dict[Locator, bytes | None] = {}
        self._halves: _Halves | None = None

    def read(self, role: str, locator: Locator) -> bytes | None:
        """Return the bytes that `locator` names; None for a null cell. Raises ImageError."""
        key = locator._replace(part=None)
        if key not in self._whole:
            self._whole[key] = _whole(locator, self._files, self._cells, role)
        data = self._whole[key]
        if data is None or locator.part is None:
            return data
        if self._halves is None or self._halves.whole != key:
            self._halves = _Halves(key, decode_image_apart(data))
        return _half(self._halves.pixels, locator.part)


def _whole(locator: Locator, files: _Fetched, cells: Cells, role: str) -> bytes | None:
    """Return the bytes of a file or a cell; None for a null cell. Raises ImageError."""
    if locator.row is None or locator.column is None:
        data = (
            files[locator.uri] if locator.row is None else ImageError("missing", f"{locator.uri}: no column")
        )
        if isinstance(data, ImageError):
            raise data
        return data
    value = cells.read(locator.uri, locator.row, locator.column, role, locator.version)
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None and isinstance(value, dict) and value.get("path"):
        # Hugging Face: in a struct without bytes, the path names them.
        return read_image(beside(locator.uri, value["path"]))
    if content is not None and not isinstance(content, bytes):  # the file has changed since it was listed
        raise ImageError("missing", f"{locator.uri}: {locator.column} of row {locator.row} holds no bytes")
    return content


def beside(table: str, uri: str) -> str:
    """Return `uri` as a row of the file `table` means it: relative to the file's folder."""
    if "://" in uri or uri.startswith("/") or is_file_uri(uri):
        return uri
    scheme, separator, path = table.rpartition("://")
    return scheme + separator + posixpath.normpath(posixpath.join(posixpath.dirname(path), uri))


def _half(picture: np.ndarray, part: str) -> bytes:
    """Return the left or the right half of `picture` (H, W, 3) uint8, as PNG. Raises ImageError."""
    width = picture.shape[1]
    if width % 2:
        raise ImageError("odd_width", f"a picture {width} pixels wide does not hold two of equal width")
    half = picture[:, : width // 2] if part == LEFT else picture[:, width // 2 :]
    return encode_image(half, "png")
