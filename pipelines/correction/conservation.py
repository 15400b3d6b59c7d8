"""Every row of the catalog is in the manifest, as often as it is there, and nothing else is: by ids, not by counts."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import ray.data

from model.errors import RunError
from pipelines.correction.known import read_part
from pipelines.correction.pending import groups
from pipelines.correction.read_catalog import read_small_rows
from pipelines.correction.row_keys import IdSums, id_buckets, id_keys
from pipelines.parquet_units import Unit
from pipelines.placement import on_tasks, tables

#: Buckets whose ids are compared one by one where the sums differ: a small part of them shows what is wrong.
_BUCKETS = 2
_NAMED = 10

_PART = pa.schema([("part", pa.string())])
_IDS = pa.schema([("image_id", pa.string())])


def check_conservation(
    catalog: IdSums, manifest: IdSums, units: Sequence[Unit], parts: Sequence[str]
) -> None:
    """Raise RunError, naming rows, unless the manifest has the catalog's ids, each as often.

    units, parts: where the ids are, which are read only to name them.
    """
    buckets = catalog.different(manifest)
    if not buckets:
        return
    looked = {"buckets": buckets[:_BUCKETS]}
    wanted = _count(on_tasks(ray.data.from_arrow(list(groups(units))), ids_of_units, looked, 0.5))
    sources = [pa.Table.from_pylist([{"part": part}], _PART) for part in parts]
    found = (
        _count(on_tasks(ray.data.from_arrow(sources), ids_of_parts, looked, 0.5)) if sources else Counter()
    )
    where = [("lost", wanted - found), ("added", found - wanted)]
    named = "; ".join(f"{what}: {', '.join(map(repr, sorted(ids)[:_NAMED]))}" for what, ids in where if ids)
    raise RunError(
        f"rows were lost or doubled: {catalog.rows} in the catalog, {manifest.rows} for the manifest, ids differ in "
        f"{len(buckets)} of {len(catalog.counts)} buckets, and there {named}; nothing was published: run again "
        "(if it comes again, with --overwrite), and report this"
    )


def check_parts(assembled: Sequence[str], written: Sequence[str]) -> None:
    """Raise RunError unless the folder holds the parts that were assembled and no others.

    assembled: names, whose ids were added up; written: URIs of what is there.
    """
    if sorted(assembled) != sorted(uri.rsplit("/", 1)[-1] for uri in written):
        raise RunError(
            f"{len(assembled)} parts of the manifest were written and {len(written)} are there, or others; nothing "
            "was published: run again, and report this"
        )


def ids_of_units(table: pa.Table, buckets: Sequence[int]) -> Iterator[pa.Table]:
    """The catalog's ids in `buckets`, of units."""
    for unit in Unit.from_table(table):
        yield _those_in([row.image_id or "" for row in read_small_rows(unit)], buckets)


def ids_of_parts(table: pa.Table, buckets: Sequence[int]) -> Iterator[pa.Table]:
    """The manifest's ids in `buckets`, of its parts."""
    for part in table.column("part").to_pylist():
        yield _those_in(read_part(part, ("image_id",)).column("image_id").to_pylist(), buckets)


def _those_in(image_ids: list[str], buckets: Sequence[int]) -> pa.Table:
    chosen = np.isin(id_buckets(id_keys(image_ids)), buckets)
    return pa.table([pa.array(image_ids, pa.string()).filter(pa.array(chosen))], schema=_IDS)


def _count(source: "ray.data.Dataset") -> Counter[str]:
    found: Counter[str] = Counter()
    for table in tables(source):
        found.update(table.column("image_id").to_pylist())
    return found
