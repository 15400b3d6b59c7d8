"""The next manifest: rows of the last one that stay, and the journal's, in few parts below OUTPUT/.run/manifest."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from pipelines.cluster.placement import on_tasks, tables
from pipelines.contracts.schemas import MANIFEST, STATUSES
from pipelines.correction.inspect.known import Known, fetched, read_part
from pipelines.correction.inspect.survey import route_name
from pipelines.correction.layout import MANIFEST as MANIFEST_FOLDER
from pipelines.correction.layout import PLAN_FOLDER, REFRESHED_FOLDER, RunFolder
from pipelines.correction.parts import parquet_bytes, part_name, write_object
from pipelines.correction.publish.staying import Staying, find_staying, keep
from pipelines.correction.row_keys import IdSums, id_keys
from pipelines.correction.rows import SUMMARY
from pipelines.correction.stream.decode import UNKNOWN_LABEL
from pipelines.correction.stream.totals import summarise
from pipelines.storage import objects as storage

#: Rows of a part: few enough parts for a hundred million rows, and few enough rows for a task's memory.
PART_ROWS = 100_000

SOURCE = pa.schema([("parts", pa.list_(pa.string())), ("layer", pa.int32())])
ASSEMBLED = pa.schema(
    [
        ("part", pa.string()),  # null where no row stays
        ("rows", pa.int64()),
        ("statuses", pa.list_(pa.int64())),  # in the order of STATUSES
        ("id_sums", pa.binary()),
        ("resumed", pa.struct(list(SUMMARY))),  # of a killed attempt's rows; null elsewhere
    ]
)


@dataclass
class Assembled:
    """What the next manifest is."""

    parts: list[str] = field(default_factory=list)
    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    ids: IdSums = field(default_factory=IdSums)
    # Rows of SUMMARY, of what killed attempts had finished.
    resumed: list[dict[str, Any]] = field(default_factory=list)

    def merge(self, table: pa.Table) -> None:
        """Add rows of ASSEMBLED."""
        for row in table.to_pylist():
            self.parts += [row["part"]] if row["part"] else []
            self.rows += row["rows"]
            self.statuses.update(dict(zip(STATUSES, row["statuses"], strict=True)))
            self.ids.merge(IdSums.from_bytes(row["id_sums"]))
            self.resumed += [row["resumed"]] if row["resumed"] else []


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
        rows = pa.concat_tables([read_part(part) for part in source["parts"]])
        resumed = None
        if source["layer"] < len(superseded):
            if earlier.retry_failed:
                rows = rows.filter(pc.not_equal(rows.column("status"), "failed"))
            rows, _ = keep(rows, superseded[source["layer"]], stays)
            if source["layer"]:  # not the manifest's
                resumed = _summary(rows)
        found.append({"resumed": resumed, **_write(rows, folder, source["parts"])})
    return pa.Table.from_pylist(found, ASSEMBLED)


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
) -> Assembled:
    """The next manifest from what earlier runs left and, last of `layers`, this run's journal; on Ray.

    rows: of each layer's parts, about. Raises what tasks raise.
    """
    find: Any = ray.remote(num_cpus=0.5, retry_exceptions=True)(find_staying)
    found = find.remote(
        storage.list_files(folder.at(PLAN_FOLDER)), storage.list_files(folder.at(REFRESHED_FOLDER))
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
