"""The next manifest: rows of the last one that stay, and the journal's, in few parts below OUTPUT/.run/manifest."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from pipelines import storage
from pipelines.correction.known import Known, fetched, read_part, read_parts
from pipelines.correction.parts import parquet_bytes, part_name, write_object
from pipelines.correction.row_keys import (
    KEY,
    IdSums,
    KeySet,
    column_keys,
    id_keys,
    keys_column,
    result_key,
    to_keys,
)
from pipelines.correction.rows import REFRESHED, SUMMARY
from pipelines.correction.run_folder import MANIFEST as MANIFEST_FOLDER
from pipelines.correction.run_folder import PLAN_FOLDER, REFRESHED_FOLDER, RunFolder
from pipelines.correction.same_bytes import UNKNOWN_LABEL
from pipelines.correction.survey import route_name
from pipelines.correction.totals import summarise
from pipelines.placement import on_tasks, tables
from pipelines.schemas import MANIFEST, STATUSES

#: Rows of a part: few enough parts for a hundred million rows, and few enough rows for a task's memory.
PART_ROWS = 100_000

SOURCE = pa.schema([("parts", pa.list_(pa.string())), ("layer", pa.int32())])
ASSEMBLED = pa.schema(
    [
        ("part", pa.string()),  # null where no row stays
        ("rows", pa.int64()),
        ("refreshed", pa.int64()),
        ("statuses", pa.list_(pa.int64())),  # in the order of STATUSES
        ("id_sums", pa.binary()),
        ("resumed", pa.struct(list(SUMMARY))),  # of a killed attempt's rows; null elsewhere
        ("shown", pa.list_(KEY)),  # see `Staying`
    ]
)


@dataclass(frozen=True)
class Staying:
    """rows: keys of rows that stay as they are. images: keys of the rows of REFRESHED, in their order.

    refreshed: without its `image_key`, and with text that recurs as a dictionary's: it lies on each node, and where all
    of a catalog's files were written anew it has a row for each of the manifest's. shown: `row_keys.result_key`s of
    pictures that several attempts have left for FID and the report.
    """

    rows: KeySet
    images: KeySet
    refreshed: pa.Table
    shown: KeySet = field(default_factory=KeySet)


@dataclass
class Assembled:
    """What the next manifest is."""

    parts: list[str] = field(default_factory=list)
    rows: int = 0
    refreshed: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    ids: IdSums = field(default_factory=IdSums)
    resumed: list[dict[str, Any]] = field(
        default_factory=list
    )  # rows of SUMMARY, of what killed attempts had finished

    shown: set[bytes] = field(default_factory=set)  # those of `Staying.shown` that are of its rows

    def merge(self, table: pa.Table) -> None:
        """Add rows of ASSEMBLED."""
        for row in table.to_pylist():
            self.parts += [row["part"]] if row["part"] else []
            self.rows += row["rows"]
            self.refreshed += row["refreshed"]
            self.statuses.update(dict(zip(STATUSES, row["statuses"], strict=True)))
            self.ids.merge(IdSums.from_bytes(row["id_sums"]))
            self.resumed += [row["resumed"]] if row["resumed"] else []
            self.shown.update(row["shown"])


def sources(layers: Sequence[Sequence[str]], rows: Sequence[Sequence[float]]) -> Iterator[pa.Table]:
    """One row of SOURCE for each part to write: neighbours of one layer, together up to PART_ROWS of its parts' `rows`.

    Not so many neighbours as make that on average: parts that are whole would be joined again and again.
    """
    for layer, (parts, counts) in enumerate(zip(layers, rows, strict=True)):
        group: list[str] = []
        total = 0.0
        for part, count in zip(parts, counts, strict=True):
            if group and total + count > PART_ROWS:
                yield pa.Table.from_pylist([{"parts": group, "layer": layer}], SOURCE)
                group, total = [], 0.0
            group.append(part)
            total += count
        if group:
            yield pa.Table.from_pylist([{"parts": group, "layer": layer}], SOURCE)


def find_staying(
    plan_parts: Sequence[str], refreshed_parts: Sequence[str], picture_parts: Sequence[str] = ()
) -> Staying:
    """What the plan and the correction found of earlier rows. For a task. Raises StorageReadError."""
    keys = [KeySet().keys]
    for table in read_parts(plan_parts, ("row_key", "pending")):
        keys.append(column_keys(table.column("row_key").filter(pc.invert(table.column("pending")))))
    refreshed = pa.concat_tables(
        [_compact(REFRESHED.empty_table()), *map(_compact, read_parts(refreshed_parts))]
    )
    refreshed = refreshed.unify_dictionaries().combine_chunks()
    images = column_keys(refreshed.column("image_key"))
    values = refreshed.drop_columns("image_key").take(pa.array(np.argsort(images)))
    shown = [column_keys(table.column("result")) for table in read_parts(picture_parts, ("result",))]
    return Staying(
        KeySet(np.concatenate(keys)),
        KeySet(images),
        values,
        KeySet(np.unique(np.concatenate([KeySet().keys, *shown]))),
    )


def _compact(refreshed: pa.Table) -> pa.Table:
    """Rows of REFRESHED, small, and in types whose arrays may be larger than 2 GB."""
    columns = {name: refreshed.column(name) for name in refreshed.column_names}
    columns["source_uri"] = columns["source_uri"].cast(pa.large_string())
    for name in ("product_type", "input_version"):
        columns[name] = columns[name].dictionary_encode()
    return pa.table(columns)


def assemble(
    table: pa.Table,
    folder: str,
    known: "Known | ray.ObjectRef[Known]",
    staying: "Staying | ray.ObjectRef[Staying]",
) -> pa.Table:
    """Rows of SOURCE to ASSEMBLED; writes a part for each. Raises StorageReadError and StorageWriteError.

    folder: where parts go. Layers of `known` are those of earlier runs; behind them is this run's journal.
    """
    earlier, stays = fetched(known), fetched(staying)
    superseded = earlier.superseded
    found = []
    for source in table.to_pylist():
        rows = pa.concat_tables([_as_manifest(read_part(part)) for part in source["parts"]])
        refreshed, resumed = 0, None
        if source["layer"] < len(superseded):
            if earlier.retry_failed:
                rows = rows.filter(pc.not_equal(rows.column("status"), "failed"))
            rows, refreshed = keep(rows, superseded[source["layer"]], stays)
            if source["layer"]:  # not the manifest's
                resumed = _summary(rows)
        told = {"refreshed": refreshed, "resumed": resumed, "shown": _shown(rows, stays.shown)}
        found.append({**told, **_write(rows, folder, source["parts"])})
    return pa.Table.from_pylist(found, ASSEMBLED)


def keep(rows: pa.Table, superseded: KeySet, staying: Staying) -> tuple[pa.Table, int]:
    """The rows of an earlier run that stay, those whose image was found unchanged with their new values; and how many
    of these there are.
    """
    current = (
        ~superseded.has(id_keys(rows.column("image_id").to_pylist()))
        if len(superseded)
        else np.ones(len(rows), bool)
    )
    same = current & _in(rows.column("row_key"), staying.rows)
    changed = current & ~same & _in(rows.column("image_key"), staying.images)
    refreshed = _refresh(rows.filter(pa.array(changed)), staying)
    return pa.concat_tables([rows.filter(pa.array(same)), refreshed]), refreshed.num_rows


def _refresh(rows: pa.Table, staying: Staying) -> pa.Table:
    places = np.searchsorted(staying.images.keys, column_keys(rows.column("image_key")))
    values = staying.refreshed.take(pa.array(places))
    for name in ("row_key", "source_uri", "product_type", "input_version"):
        column = values.column(name).cast(MANIFEST.field(name).type)
        rows = rows.set_column(rows.schema.get_field_index(name), MANIFEST.field(name), column)
    return rows


def _in(column: pa.ChunkedArray, keys: KeySet) -> np.ndarray:
    """(N,): which values are in the set; null is not."""
    there = np.asarray(column.is_valid())
    found = np.zeros(len(there), bool)
    found[there] = keys.has(column_keys(column))
    return found


def _shown(rows: pa.Table, pictures: KeySet) -> list[bytes]:
    """Which of `pictures` are of `rows`."""
    if not len(pictures):
        return []
    told = rows.select(["image_id", "input_sha256", "defects"]).to_pylist()
    keys = to_keys([result_key(row["image_id"], row["input_sha256"], row["defects"] or ()) for row in told])
    return list(keys_column(keys[pictures.has(keys)]).to_pylist())


def _summary(rows: pa.Table) -> dict[str, Any]:
    """A row of SUMMARY of manifest rows that a killed attempt has left."""
    names = ("image_id", "status", "defects", "error_code", "error_message", "profile_issues")
    told = rows.select(names).to_pylist()
    # Which labels nobody knows, a manifest does not say: those rows that did not fail for them count as without defect.
    unknown = [(UNKNOWN_LABEL,) if row["error_code"] == UNKNOWN_LABEL else () for row in told]
    routes = [
        route_name(tuple(row["defects"] or ()), labels) for row, labels in zip(told, unknown, strict=True)
    ]
    (summary,) = summarise(told, routes).to_pylist()
    return dict(summary)


def _as_manifest(table: pa.Table) -> pa.Table:
    """Columns that an earlier version of this job did not write are null."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in MANIFEST
    ]
    return pa.table(columns, schema=MANIFEST)


def _write(rows: pa.Table, folder: str, sources: Sequence[str]) -> dict[str, Any]:
    ids = rows.column("image_id").to_pylist()
    sums = IdSums()
    sums.add(id_keys(ids))
    counts = Counter(rows.column("status").to_pylist())
    name = None
    if ids:
        # After what it is made of, not after its ids: what is left of two parts may have the same ones.
        name = part_name(sources)
        write_object(storage.join(folder, name), parquet_bytes(rows))
    return {
        "part": name,
        "rows": len(ids),
        "statuses": [counts[status] for status in STATUSES],
        "id_sums": sums.to_bytes(),
    }


def assemble_parts(
    layers: Sequence[Sequence[str]],
    rows: Sequence[Sequence[float]],
    known: "ray.ObjectRef[Known]",
    folder: RunFolder,
    pictures: Sequence[str] = (),
) -> Assembled:
    """The next manifest from what earlier runs left and, last of `layers`, this run's journal; on Ray.

    rows: of each layer's parts, about. pictures: parts of samples and strips, see `Staying.shown`. Raises what tasks
    raise.
    """
    find: Any = ray.remote(num_cpus=0.5, retry_exceptions=True)(find_staying)
    found = find.remote(
        storage.list_files(folder.at(PLAN_FOLDER)),
        storage.list_files(folder.at(REFRESHED_FOLDER)),
        list(pictures),
    )
    settings = {"folder": folder.at(MANIFEST_FOLDER), "known": known, "staying": found}
    assembled = Assembled()
    wanted = list(sources(layers, rows))
    if wanted:
        for table in tables(on_tasks(ray.data.from_arrow(wanted), assemble, settings, cpus=0.5)):
            assembled.merge(table)
    if not assembled.parts:  # readers find a manifest of no rows, and not none
        assembled.parts.append(part_name([]))
        write_object(folder.at(MANIFEST_FOLDER, part_name([])), parquet_bytes(MANIFEST.empty_table()))
    return assembled
