"""Whether the tables are still those whose rows a plan has numbered: looked at before a run is continued.

Only files of which cells are still to be read matter. What a plan holds as text (URIs, ids, labels) and images that
are files of their own do not depend on a row's number.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.ahead import map_ahead
from pipelines.dataset.plan import FILE_ENTRIES, Plan, entries_uri
from pipelines.dataset.resolve import ROLES

#: Tables that the message names; all are counted.
NAMED = 5


def check_unchanged(folder: str, plan: Plan, units: Sequence[int]) -> None:
    """Raise ConfigurationError where a table that the entries of `units` lie in is another than when it was planned.

    folder: of the plan. Holds the names of the tables in memory.
    """
    changed = []
    for (uri, version), now in map_ahead(_version_now, sorted(_tables(folder, plan, units))):
        if now != version:
            changed.append(f"{uri} (planned as {version}, now {now})")
    if changed:
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        raise ConfigurationError(
            f"{'; '.join(changed[:NAMED])}{more}: rewritten since the unfinished run numbered the rows, so they may be "
            "other photos now; put the old ones back, or begin anew with --overwrite"
        )


def _version_now(table: tuple[str, str]) -> str | None:
    try:
        return storage.version(table[0])
    except FileNotFoundError:
        return "absent"


def _tables(folder: str, plan: Plan, units: Sequence[int]) -> set[tuple[str, str]]:
    """URI and version of the files whose cells the units read."""
    found: set[tuple[str, str]] = set()
    for file, places in _files(plan, units):
        data = storage.read_bytes(entries_uri(folder, file))
        table = pq.read_table(pa.BufferReader(data), columns=list(ROLES)).take(pa.array(places))
        for role in ROLES:
            found.update(_cells(table[role]))
    return found


def _files(plan: Plan, units: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The plan's files that hold entries of the units, and the entries' places in them."""
    numbers = np.concatenate(
        [np.arange(0), *(np.arange(span.start, span.stop) for span in map(plan.span, units))]
    )
    files, starts = np.unique(numbers // FILE_ENTRIES, return_index=True)
    for file, places in zip(
        files.tolist(), np.split(numbers, starts[1:]), strict=False
    ):  # of nothing there is a piece
        yield file, places - file * FILE_ENTRIES


def _cells(locators: pa.ChunkedArray) -> Iterator[tuple[str, str]]:
    for chunk in locators.chunks:
        uris, versions = (pc.struct_field(chunk, name) for name in ("uri", "version"))
        known = pc.is_valid(versions)
        pairs = pa.table({"uri": uris.filter(known), "version": versions.filter(known)})
        for row in pairs.group_by(["uri", "version"]).aggregate([]).to_pylist():
            yield row["uri"], row["version"]
