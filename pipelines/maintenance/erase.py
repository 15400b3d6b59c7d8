"""Erases ids on request, such as for privacy: their images go, from all nights, and no later night makes them again.

Their rows stay in the manifests, as failed ones with the code `erased`, because every row of the catalog has a row.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.schemas import PREVIOUS_RUN_KEY, RUN_KEY, stamped
from pipelines.maintenance.run import Maintenance, Output, begin, count_statuses
from pipelines.published import layout
from pipelines.published.changes import join
from pipelines.published.erased import ERASED, add_erased, erase_rows, read_erased
from pipelines.published.object_names import IMAGES, is_image_of, safe_name
from pipelines.published.parts import parquet_bytes, read_manifest, read_parts, write_object
from pipelines.published.publish import copy_parts
from pipelines.published.records import last_run
from pipelines.published.row_keys import id_keys
from pipelines.storage.lock import Lock
from pipelines.storage.pages import File, folders, pages, remove_files


@dataclass
class Erasure:
    """What is to go, or has gone. rows: of the current manifest, by id. kept: parts of kept manifests that name one of
    the ids. images: their files. unknown: ids of which nothing is there.
    """

    rows: Counter[str]
    parts: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    images: list[File] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def describe(self) -> list[str]:
        """Return lines for people."""
        rows = ", ".join(f"{count} of {image_id!r}" for image_id, count in self.rows.items())
        unknown = ", ".join(map(repr, self.unknown))
        return [
            f"rows      {rows}",
            f"images    {len(self.images)}, {sum(file.size for file in self.images)} bytes",
            f"also      {len(self.kept)} files of earlier manifests are written again, and the report is removed",
            *([f"unknown   {unknown}: no later night will read them"] if unknown else []),
        ]


def plan_erasure(output: str, image_ids: Sequence[str], allow_unknown: bool = False) -> Erasure:
    """Look for rows and images of the ids, and write nothing.

    Raises ConfigurationError for an id without any, unless `allow_unknown`.
    """
    return _find(Output.look(output), list(dict.fromkeys(image_ids)), allow_unknown)


def erase(output: str, image_ids: Sequence[str], lock: Lock, allow_unknown: bool = False) -> Erasure:
    """Erase ids from all manifests, and their images. Returns what was erased.

    allow_unknown: also ids without any row or image, so that no later night corrects their uploads.

    Whatever ends it, the next call goes on; from its first change on, no run makes the images again. Raises RunError if
    the lock is lost, ConfigurationError, and one of STORAGE_ERRORS.
    """
    begin(output, lock)
    ids = list(dict.fromkeys(image_ids))
    there = Output.look(output)
    found = _find(there, ids, allow_unknown)
    run = Maintenance(output, lock, {"verb": "erase", "ids": len(ids)})
    lock.confirm()
    add_erased(output, ids, run.started_at)
    for part in found.kept:
        lock.confirm()
        write_object(part, _without(part, ids), output)
    if found.parts:
        _publish(there, found, ids, run)
    else:
        if any(names for _, _, names in _touched(there.unfinished, ids)):  # what a killed run had finished
            storage.remove(there.folder.at(layout.JOURNAL))
        run.note()
    lock.confirm()
    remove_files(file.uri for file in found.images)  # which nothing names any more
    # It may show their pictures, and names some ids. The next run writes another one.
    storage.remove(storage.join(output, layout.REPORT))
    return found


def _find(there: Output, ids: list[str], allow_unknown: bool) -> Erasure:
    found = Erasure(Counter(dict.fromkeys(ids, 0)))
    known: set[str] = set()
    for part, touched, seen in _touched(there.manifest, ids):
        found.rows.update(touched)
        found.parts += [part] if touched else []
        known |= seen
    for part, touched, seen in _touched([part for parts in there.kept.values() for part in parts], ids):
        found.kept += [part] if touched else []
        known |= seen
    for image_id in ids:
        own = _images_of(image_id, storage.join(there.folder.output, IMAGES))
        found.images += own
        known |= {image_id} if own else set()
    erased = read_erased(there.folder.output).has(id_keys(ids))
    known |= {image_id for image_id, is_erased in zip(ids, erased, strict=True) if is_erased}
    found.unknown = [image_id for image_id in ids if image_id not in known]
    if found.unknown and not allow_unknown:
        raise ConfigurationError(
            f"--image-id {' '.join(map(repr, found.unknown))}: no manifest has a row of this id, and there is no image "
            "of it; nothing was erased: check the id; if it is of an upload that no night has seen, add --allow-unknown"
        )
    return found


def _images_of(image_id: str, images: str) -> list[File]:
    """Return the files of all images of an id, whether a manifest names them or not. images: their folder."""
    return [
        file
        for defect in folders(images)
        for page in pages(storage.join(images, defect), f"{safe_name(image_id)}.")
        for file in page
        if is_image_of(file.uri.rsplit("/", 1)[-1], image_id)
    ]


def _touched(parts: Sequence[str], ids: list[str]) -> Iterator[tuple[str, list[str], set[str]]]:
    """Yield each part with the ids of its rows that are to be erased, and all of `ids` that it has rows of."""
    columns = ("image_id", "error_code")
    for part, table in zip(parts, read_parts(parts, columns), strict=True):
        rows = table.filter(_is_one_of(table, ids))
        names = rows.column("image_id").to_pylist()
        codes = rows.column("error_code").to_pylist()
        yield part, [name for name, code in zip(names, codes, strict=True) if code != ERASED], set(names)


def _is_one_of(rows: pa.Table, ids: list[str]) -> pa.ChunkedArray:
    return pc.is_in(rows.column("image_id"), value_set=pa.array(ids, pa.string()))


def _without(part: str, ids: list[str]) -> bytes:
    """Return the content of a manifest's part with erased rows for the ids."""
    return parquet_bytes(stamped(_erased(read_manifest(part), ids)))


def _erased(rows: pa.Table, ids: list[str]) -> pa.Table:
    chosen = np.asarray(_is_one_of(rows, ids))
    order = np.argsort(np.r_[np.flatnonzero(~chosen), np.flatnonzero(chosen)], kind="stable")
    tables = [rows.filter(pa.array(~chosen)), erase_rows(rows.filter(pa.array(chosen)))]
    return pa.concat_tables(tables).take(pa.array(order))


def _publish(there: Output, found: Erasure, ids: list[str], run: Maintenance) -> None:
    """Publish the current manifest with erased rows, and what has changed in it."""
    folder = there.folder
    new, gone = [], []
    for part in found.parts:
        rows = read_manifest(part)
        erased = _erased(rows, ids)
        write_object(folder.at(layout.MANIFEST, part.rsplit("/", 1)[-1]), parquet_bytes(stamped(erased)))
        chosen = _is_one_of(rows, ids)
        gone.append(rows.filter(chosen))
        new.append(erased.filter(chosen))
    copy_parts(folder, sorted({*there.manifest} - {*found.parts}))
    changes = join(pa.concat_tables(new), pa.concat_tables(gone))
    name = f"{run.name}.parquet"
    stamps = {RUN_KEY: run.name, PREVIOUS_RUN_KEY: last_run(folder.output) or "unknown"}
    write_object(folder.at(layout.CHANGES_FOLDER, name), parquet_bytes(stamped(changes, stamps)))
    counted = count_statuses(storage.list_files(folder.at(layout.MANIFEST), ".parquet"))
    counted.update(changes.column("change").to_pylist())
    success = storage.exists(storage.join(folder.output, layout.SUCCESS))
    run.publish(there.current, there.manifest, [name], counted, success)
