"""Check that tables have not changed since a plan numbered their rows, before a run is continued.

Only files whose cells are still to be read matter. Text that the plan holds (URIs, ids, labels) and images that are
files of their own do not depend on row numbers.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.cluster.ahead import map_ahead
from pipelines.preparation.plan.plan import FILE_ENTRIES, Plan, entries_uri
from pipelines.preparation.unit.resolve import ROLES

#: Number of tables that the message names; all are counted.
NAMED = 5


def check_unchanged(folder: str, plan: Plan, units: Sequence[int]) -> None:
    """Raise ConfigurationError if a table that the entries of `units` refer to has changed since it was planned.

    folder: of the plan. Holds the tables' names in memory.
    """
    changed = []
    for (uri, version), now in map_ahead(_version_now, sorted(_tables(folder, plan, units))):
        if now != version:
            changed.append(f"{uri} (planned as {version}, now {now})")
    if changed:
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        raise ConfigurationError(
            f"{'; '.join(changed[:NAMED])}{more}: rewritten since the unfinished run numbered the rows, so they may be "
            "other photos now; restore the old files, or start again with --overwrite"
        )


def _version_now(table: tuple[str, str]) -> str | None:
    try:
        return storage.version(table[0])
    except FileNotFoundError:
        return "absent"


def _tables(folder: str, plan: Plan, units: Sequence[int]) -> set[tuple[str, str]]:
    """Return the URI and version of each file whose cells the units read."""
    tables: set[tuple[str, str]] = set()
    for file, positions in _files(plan, units):
        data = storage.read_bytes(entries_uri(folder, file))
        table = pq.read_table(pa.BufferReader(data), columns=list(ROLES)).take(pa.array(positions))
        for role in ROLES:
            tables.update(_cells(table[role]))
    return tables


def _files(plan: Plan, units: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the plan's files that hold entries of the units, with the entries' positions in them."""
    numbers = np.concatenate(
        [np.arange(0), *(np.arange(span.start, span.stop) for span in map(plan.span, units))]
    )
    files, starts = np.unique(numbers // FILE_ENTRIES, return_index=True)
    for file, positions in zip(
        files.tolist(), np.split(numbers, starts[1:]), strict=False
    ):  # without numbers, split still returns one empty piece
        yield file, positions - file * FILE_ENTRIES


def _cells(locators: pa.ChunkedArray) -> Iterator[tuple[str, str]]:
    for chunk in locators.chunks:
        uris, versions = (pc.struct_field(chunk, name) for name in ("uri", "version"))
        known = pc.is_valid(versions)
        pairs = pa.table({"uri": uris.filter(known), "version": versions.filter(known)})
        for row in pairs.group_by(["uri", "version"]).aggregate([]).to_pylist():
            yield row["uri"], row["version"]
