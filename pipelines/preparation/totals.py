"""The record of a finished unit, kept beside the shards: counts, shards, and examples. Records add up."""

import hashlib
import heapq
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contracts.schemas import SHARD

#: Maximum of unreadable images listed by name; all are counted.
LISTED = 20
#: Maximum of counts in a sum. Product types are sellers' text, at worst as many as images. Above the maximum, rows of
#: the rarest types are counted as OTHER_TYPES.
MOST_COUNTS, OTHER_TYPES = 20_000, "other types"
#: Pairs on either side of --min-quality that the report shows, at most.
SHOWN = 24
#: Bins of the histogram of mask quality over [0, 1].
QUALITY_BINS = 20

_EXAMPLE = pa.struct(
    [
        ("image_id", pa.string()),
        ("quality", pa.float64()),
        ("lowest", pa.string()),
        ("origin", pa.string()),
        ("source", pa.binary()),
        ("mask", pa.binary()),
        ("composite", pa.binary()),
    ]
)
_RECORD = pa.schema(
    [
        ("totals", pa.string()),
        ("shards", pa.list_(pa.string())),
        ("accepted", pa.list_(_EXAMPLE)),
        ("rejected", pa.list_(_EXAMPLE)),
    ]
)


@dataclass
class Totals:
    """Counts of what was done, which add up over units."""

    counts: Counter[str] = field(default_factory=Counter)  # 'kind/key/key' -> n
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)  # (image_id, code, message), bounded
    fingerprint: int = (
        0  # sum of the rows' hashes modulo 2^256, which does not depend on their order and files
    )

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Count a training row."""
        keys = (row["defect"], row["pairing"], row["split"], row["product_type"] or "unknown")
        self.counts["rows/" + "/".join(key.replace("/", " ") for key in keys)] += 1
        self.fingerprint = (self.fingerprint + _row_hash(row)) % 2**256

    def add_unreadable(self, image_id: str, code: str, message: str, count: int = 1) -> None:
        """Count one entry (or `count` entries) whose image cannot be read."""
        self.counts["entries/unreadable"] += count
        self.counts[f"unreadable/{code}"] += count
        self.unreadable = sorted([*self.unreadable, (image_id, code, message)])[:LISTED]

    def merge(self, other: "Totals") -> None:
        """Add `other` to this."""
        self.counts.update(other.counts)
        if len(self.counts) > MOST_COUNTS:
            self._join_rare_types()
        self.unreadable = sorted(self.unreadable + other.unreadable)[:LISTED]
        self.fingerprint = (self.fingerprint + other.fingerprint) % 2**256

    def _join_rare_types(self) -> None:
        """Halve the number of counts, so that the next merges need not."""
        by_type: dict[str, Counter[str]] = {}
        for key, count in self.counts.items():
            row, _, product_type = key.rpartition("/")  # rows/<defect>/<pairing>/<split>
            if key.startswith("rows/") and product_type != OTHER_TYPES:
                by_type.setdefault(product_type, Counter())[row] = count
        kept = len(self.counts) - sum(map(len, by_type.values()))
        for product_type in sorted(by_type, key=lambda name: (-by_type[name].total(), name)):
            of_type = by_type[product_type]
            kept += len(of_type)
            if kept > MOST_COUNTS // 2:
                for row, count in of_type.items():
                    del self.counts[f"{row}/{product_type}"]
                    self.counts[f"{row}/{OTHER_TYPES}"] += count

    def to_json(self) -> str:
        """Return the totals as text."""
        return json.dumps([self.counts, self.unreadable, f"{self.fingerprint:x}"])

    @staticmethod
    def from_json(text: str) -> "Totals":
        """Return the totals from the text of `to_json`."""
        counts, unreadable, fingerprint = json.loads(text)
        return Totals(Counter(counts), [tuple(item) for item in unreadable], int(fingerprint, 16))


@dataclass(frozen=True)
class Example:
    """A pair made with a mask, for a person to judge: small JPEGs of photo, mask and composite."""

    image_id: str
    quality: float
    lowest: str  # the measure that decided `quality`
    origin: str  # 'given' | 'saliency'
    source: bytes
    mask: bytes
    composite: bytes


@dataclass
class UnitRecord:
    """The totals of a unit (or of all units), its shards, and its examples for the report.

    accepted: the worst masks that were trusted, worst first. rejected: the best that were not, best first. Each holds
    SHOWN at most.
    """

    totals: Totals = field(default_factory=Totals)
    shards: list[str] = field(default_factory=list)
    accepted: list[Example] = field(default_factory=list)
    rejected: list[Example] = field(default_factory=list)

    def wants(self, quality: float, image_id: str, accepted: bool) -> bool:
        """Return whether an example of this quality would be kept; otherwise its pictures need not be made."""
        kept = self.accepted if accepted else self.rejected
        return len(kept) < SHOWN or _closeness(accepted)(kept[-1]) > (
            quality if accepted else -quality,
            image_id,
        )

    def show(self, example: Example, accepted: bool) -> None:
        """Keep `example` if it is among the closest to the threshold."""
        if accepted:
            self.accepted = _closest([*self.accepted, example], True)
        else:
            self.rejected = _closest([*self.rejected, example], False)

    def merge(self, other: "UnitRecord") -> None:
        """Add `other` to this, in any order."""
        self.totals.merge(other.totals)
        self.shards += other.shards
        self.accepted = _closest(self.accepted + other.accepted, True)
        self.rejected = _closest(self.rejected + other.rejected, False)

    def to_bytes(self) -> bytes:
        """Return the record as a parquet file of one row."""
        row = {
            "totals": self.totals.to_json(),
            "shards": self.shards,
            "accepted": [asdict(example) for example in self.accepted],
            "rejected": [asdict(example) for example in self.rejected],
        }
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([row], _RECORD), buffer)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "UnitRecord":
        """Return the record from the bytes of `to_bytes`."""
        [row] = pq.read_table(pa.BufferReader(data)).to_pylist()
        return UnitRecord(
            Totals.from_json(row["totals"]),
            row["shards"],
            [Example(**example) for example in row["accepted"]],
            [Example(**example) for example in row["rejected"]],
        )


def _closeness(accepted: bool) -> Any:
    """Return a sort key: the distance of an example to the threshold, the closest first."""
    return lambda example: (example.quality if accepted else -example.quality, example.image_id)


def _closest(examples: Sequence[Example], accepted: bool) -> list[Example]:
    return heapq.nsmallest(SHOWN, examples, key=_closeness(accepted))


def _row_hash(row: Mapping[str, Any]) -> int:
    digest = hashlib.sha256()
    for name in SHARD.names:
        value = row[name]
        data = (
            b""
            if value is None
            else value
            if isinstance(value, bytes)
            else str(value).encode("utf-8", "surrogatepass")
        )
        digest.update(f"{name}:{-1 if value is None else len(data)}:".encode() + data)
    return int.from_bytes(digest.digest(), "big")
