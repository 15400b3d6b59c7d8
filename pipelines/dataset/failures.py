"""Which entries of a dataset cannot be read, and why, over all its generations: each counted once.

An addition tries again what could not be read before, so the sum over its runs would count an entry as often as it was
tried, and also when it was read in the end.
"""

import io
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.dataset.known import hash_ids
from pipelines.dataset.listing import possible_marks
from pipelines.dataset.totals import LISTED, Totals

#: Code of an entry whose id is empty.
NAMELESS = "no_image_id"
_SCHEMA = pa.schema([("hash", pa.uint64()), ("code", pa.string())])


class Failures:
    """Hashes of marks (see `listing.marks_of`) with the code of what is wrong; some ten bytes each."""

    def __init__(self, table: pa.Table | None = None) -> None:
        self.table = _SCHEMA.empty_table() if table is None else table

    def add(self, failed: Sequence[tuple[str, str]]) -> None:
        """Add (mark, code)."""
        if failed:
            marks, codes = zip(*failed, strict=True)
            fresh = pa.table({"hash": hash_ids(marks), "code": list(codes)}, _SCHEMA)
            self.table = pa.concat_tables([self.table, fresh])

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """(N,)."""
        return np.asarray(self.table["hash"].to_numpy(), np.uint64)

    def after(self, earlier: "Failures", tried: NDArray[np.uint64]) -> "Failures":
        """These, and of the `earlier` ones those that were not tried (hashes, (N,)) this time."""
        left = earlier.table.filter(pa.array(~np.isin(earlier.hashes, tried)))
        return Failures(pa.concat_tables([left, self.table]))

    def by_code(self) -> Counter[str]:
        """How many there are."""
        counts = pc.value_counts(self.table["code"]).to_pylist()
        return Counter({row["values"]: row["counts"] for row in counts})

    def to_bytes(self) -> bytes:
        """As a parquet file."""
        buffer = io.BytesIO()
        pq.write_table(self.table, buffer, compression="zstd")
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "Failures":
        """Inverse of `to_bytes`."""
        return Failures(pq.read_table(pa.BufferReader(data), schema=_SCHEMA))


def count_once(
    totals: Totals, failures: Failures, nameless: int, latest: Totals, defects: Iterable[str]
) -> None:
    """Let the sum over all generations tell of every entry that cannot be read once.

    failures: what cannot be read now. nameless: entries of the last listing without an id, by which they could be
    known. latest: the last generation's totals. defects: names that given entries may have.
    """
    codes = failures.by_code()
    if nameless:
        codes[NAMELESS] += nameless
    for key in [key for key in totals.counts if key.startswith("unreadable/")]:
        del totals.counts[key]
    totals.counts.update({f"unreadable/{code}": count for code, count in codes.items()})
    totals.counts["entries/unreadable"] = codes.total()
    hashes, names = failures.hashes, tuple(defects)
    totals.unreadable = [
        item
        for item in totals.unreadable
        if (
            item in latest.unreadable
            if not item[0]
            else np.isin(hash_ids(possible_marks(item[0], names)), hashes).any()
        )
    ][:LISTED]
