"""Entries to records: fetches the encoded bytes that an entry names.

Files are fetched a few at once and ahead of their turn, cells of parquet files streamed. What is wrong with one image
is its record's error; only a table that cannot be read at all ends the run, since that is no image's fault and may
pass when the task is tried again.
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

#: Entries whose files are fetched ahead. Each may hold some images of up to 32 MB.
FETCH_THREADS = 8

#: Of `uploads.read_image`: neither absent nor forbidden.
STORAGE_FAILED = "unreadable"
ROLES = ("source", "target", "mask")

_Fetched = Mapping[str, bytes | ImageError]  # by URI


@dataclass(frozen=True)
class _Halves:
    """The last picture that was cut: both halves are asked for one after the other."""

    of: Locator  # without its part
    pixels: np.ndarray  # (H, W, 3) uint8


def records(entries: Iterable[Entry]) -> Iterator[Record]:
    """The record of each entry, in order.

    A half of a picture (LEFT, RIGHT) comes as PNG, lossless; all other bytes are as stored. A cell that is null counts
    as if the entry had not named it; an entry of which no image is left has the error `no_image`. Other errors: the
    codes of `uploads.read_image`, and for halves those of `decode.decode_image` and `odd_width`. A mask that cannot be
    read is none, with its code in `mask_error`, unless the storage failed.

    Raises StorageReadError where a parquet file cannot be read, ChangedSourceError where it was rewritten.
    """
    with Cells() as cells:
        for entry, files in map_ahead(_fetch_files, entries, FETCH_THREADS):
            yield _record(entry, files, cells)


def _fetch_files(entry: Entry) -> _Fetched:
    """The files that the entry names, each once."""
    uris = {place.uri for place in _places(entry).values() if place.row is None}
    return {uri: _read(uri) for uri in uris}


def _read(uri: str) -> bytes | ImageError:
    try:
        return read_image(uri)
    except ImageError as error:
        return error


def _places(entry: Entry) -> dict[str, Locator]:
    return {role: place for role in ROLES if (place := getattr(entry, role)) is not None}


def _record(entry: Entry, files: _Fetched, cells: Cells) -> Record:
    places, mask_error = _places(entry), None
    reader = _Images(files, cells)
    try:
        found = {role: reader.read(role, places[role]) for role in ROLES[:2] if role in places}
        if not any(data is not None for data in found.values()):
            raise ImageError("no_image", "there is neither image bytes nor a uri")
        if "mask" in places:
            try:
                found["mask"] = reader.read("mask", places["mask"])
            except ImageError as error:
                if error.code == STORAGE_FAILED:  # another time it may be there
                    raise
                mask_error = error.code
    except ImageError as error:
        return Record(entry, error=(error.code, str(error)))
    return Record(entry, found.get("source"), found.get("target"), found.get("mask"), mask_error=mask_error)


class _Images:
    """The images of one entry, each picture fetched and cut once."""

    def __init__(self, files: _Fetched, cells: Cells) -> None:
        self._files, self._cells = files, cells
        self._whole: dict[Locator, bytes | None] = {}
        self._halves: _Halves | None = None

    def read(self, role: str, place: Locator) -> bytes | None:
        """The bytes at a place; None for a cell that is null. Raises ImageError."""
        key = place._replace(part=None)
        if key not in self._whole:
            self._whole[key] = _whole(place, self._files, self._cells, role)
        data = self._whole[key]
        if data is None or place.part is None:
            return data
        if self._halves is None or self._halves.of != key:
            self._halves = _Halves(key, decode_image_apart(data))
        return _half(self._halves.pixels, place.part)


def _whole(place: Locator, files: _Fetched, cells: Cells, role: str) -> bytes | None:
    """The bytes of a file or a cell; None for a cell that is null. Raises ImageError."""
    if place.row is None or place.column is None:
        data = files[place.uri] if place.row is None else ImageError("missing", f"{place.uri}: no column")
        if isinstance(data, ImageError):
            raise data
        return data
    value = cells.read(place.uri, place.row, place.column, role, place.version)
    found = value.get("bytes") if isinstance(value, dict) else value
    if found is None and isinstance(value, dict) and value.get("path"):
        # Hugging Face: a struct without bytes says by its path where they are.
        return read_image(beside(place.uri, value["path"]))
    if found is not None and not isinstance(found, bytes):  # the file is another than when it was listed
        raise ImageError("missing", f"{place.uri}: {place.column} of row {place.row} holds no bytes")
    return found


def beside(table: str, uri: str) -> str:
    """`uri` as a row of the file `table` means it: relative to the folder that the file is in."""
    if "://" in uri or uri.startswith("/") or is_file_uri(uri):
        return uri
    scheme, separator, path = table.rpartition("://")
    return scheme + separator + posixpath.normpath(posixpath.join(posixpath.dirname(path), uri))


def _half(picture: np.ndarray, part: str) -> bytes:
    """The left or the right half of `picture` (H, W, 3) uint8, as PNG. Raises ImageError."""
    width = picture.shape[1]
    if width % 2:
        raise ImageError("odd_width", f"a picture {width} pixels wide does not hold two of equal width")
    half = picture[:, : width // 2] if part == LEFT else picture[:, width // 2 :]
    return encode_image(half, "png")
