"""Writes the next manifest: rows of the last one that stay, and the journals', in few parts in OUTPUT/.run/manifest."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
import ray.data

from pipelines import storage
from pipelines.cluster.placement import fetched, in_task, on_tasks, tables
from pipelines.contracts.schemas import MANIFEST, STATUSES, stamped
from pipelines.correction.inspect.known import Known
from pipelines.correction.inspect.survey import route_name
from pipelines.correction.models import Models
from pipelines.correction.publish.staying import Staying, find_staying, keep
from pipelines.correction.rows import SUMMARY
from pipelines.correction.stream.decode import UNKNOWN_LABEL
from pipelines.correction.stream.totals import summarise
from pipelines.published.changes import set_aside
from pipelines.published.layout import MANIFEST as MANIFEST_FOLDER
from pipelines.published.layout import PLAN_FOLDER, REFRESHED_FOLDER, RunFolder
from pipelines.published.parts import parquet_bytes, part_name, read_manifest, write_object
from pipelines.published.row_keys import IdSums, id_keys

#: Most rows of a part: few parts even for a hundred million rows, and few enough rows for a task's memory.
PART_ROWS = 100_000

SOURCE = pa.schema([("parts", pa.list_(pa.string())), ("layer", pa.int32())])
ASSEMBLED = pa.schema(
    [
        ("part", pa.string()),  # null if no row stays
        ("rows", pa.int64()),
        ("statuses", pa.list_(pa.int64())),  # in the order of STATUSES
        ("id_sums", pa.binary()),
        ("resumed", pa.struct(list(SUMMARY))),  # of a killed attempt's rows; null elsewhere
        ("aside", pa.int64()),  # rows that were set aside, see `changes`
    ]
)


@dataclass
class Assembled:
    """The next manifest: its parts, counts and ids."""

    parts: list[str] = field(default_factory=list)
    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    ids: IdSums = field(default_factory=IdSums)
    # Rows of SUMMARY: what killed attempts had finished.
    resumed: list[dict[str, Any]] = field(default_factory=list)
    aside: int = 0  # rows that were set aside, see `changes`

    def merge(self, table: pa.Table) -> None:
        """Add rows of ASSEMBLED."""
        for row in table.to_pylist():
            self.parts += [row["part"]] if row["part"] else []
            self.rows += row["rows"]
            self.statuses.update(dict(zip(STATUSES, row["statuses"], strict=True)))
            self.ids.merge(IdSums.from_bytes(row["id_sums"]))
            self.resumed += [row["resumed"]] if row["resumed"] else []
            self.aside += row["aside"]


def sources(layers: Sequence[Sequence[str]], rows: Sequence[Sequence[float]]) -> Iterator[pa.Table]:
    """Yield one row of SOURCE for each part to write: neighbours of one layer, together up to PART_ROWS rows.

    rows: of each layer's parts, about. PART_ROWS is a maximum: as an average, full parts would be joined every time.
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
    aside: str,
    known: "Known | ray.ObjectRef[Known]",
    staying: "Staying | ray.ObjectRef[Staying]",
    models: Models,
) -> pa.Table:
    """Write a part for each row of SOURCE; return rows of ASSEMBLED. Raises StorageReadError and StorageWriteError.

    folder: of the parts. aside: of the rows that are new or gone, see `changes`. known: has the layers of earlier runs;
    this run's journal is the layer after them. models: the bundles that correct.
    """
    earlier, staying_rows = fetched(known), fetched(staying)
    superseded = earlier.superseded
    assembled = []
    for source in table.to_pylist():
        rows = read_manifest(*source["parts"])
        new, gone, resumed = rows, MANIFEST.empty_table(), None
        if source["layer"] < len(superseded):
            kept = keep(rows, superseded[source["layer"]], staying_rows, earlier.retry_failed)
            rows = kept.rows
            if source["layer"] == 0:  # the manifest
                new, gone = kept.new, kept.gone
            else:
                new, resumed = rows, _summary(rows, models)
        count = set_aside(new, gone, aside, part_name(source["parts"]))
        assembled.append({"resumed": resumed, "aside": count, **_write(rows, folder, source["parts"])})
    return pa.Table.from_pylist(assembled, ASSEMBLED)


def _summary(rows: pa.Table, models: Models) -> dict[str, Any]:
    """Return a row of SUMMARY for manifest rows that a killed attempt left."""
    names = ("image_id", "status", "defects", "error_code", "error_message", "profile_issues")
    records = rows.select(names).to_pylist()
    # A manifest does not name unknown labels: rows that did not fail for them count as rows without a defect.
    unknown = [(UNKNOWN_LABEL,) if row["error_code"] == UNKNOWN_LABEL else () for row in records]
    routes = [
        route_name(tuple(row["defects"] or ()), labels, models.in_canary(row["image_id"]))
        for row, labels in zip(records, unknown, strict=True)
    ]
    (summary,) = summarise(records, routes).to_pylist()
    return dict(summary)


def _write(rows: pa.Table, folder: str, sources: Sequence[str]) -> dict[str, Any]:
    ids = rows.column("image_id").to_pylist()
    sums = IdSums()
    sums.add(id_keys(ids))
    counts = Counter(rows.column("status").to_pylist())
    name = None
    if ids:
        # Named after its sources, not its ids: the remaining rows of two parts may have the same ids.
        name = part_name(sources)
        write_object(storage.join(folder, name), parquet_bytes(stamped(rows)))
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
    aside: str,
    inspected: tuple[int, int],
    models: Models,
) -> Assembled:
    """Write the next manifest from the layers of earlier runs and, last of `layers`, this run's journal; on Ray.

    rows: of each layer's parts, about. aside: folder of rows that are new or gone. inspected: numbers of rows of the
    catalog, and of rows whose image this run has read and found unchanged. Raises whatever tasks raise.
    """
    plan, refreshed = (storage.list_files(folder.at(name)) for name in (PLAN_FOLDER, REFRESHED_FOLDER))
    staying = ray.put(find_staying(plan, refreshed, *inspected, call=in_task))
    settings = {
        "folder": folder.at(MANIFEST_FOLDER),
        "aside": aside,
        "known": known,
        "staying": staying,
        "models": models,
    }
    assembled = Assembled()
    parts = list(sources(layers, rows))
    if parts:
        for table in tables(on_tasks(ray.data.from_arrow(parts), assemble, settings, cpus=0.5)):
            assembled.merge(table)
    if not assembled.parts:  # readers then find a manifest without rows, not a missing one
        assembled.parts.append(part_name([]))
        write_object(
            folder.at(MANIFEST_FOLDER, part_name([])), parquet_bytes(stamped(MANIFEST.empty_table()))
        )
    return assembled
