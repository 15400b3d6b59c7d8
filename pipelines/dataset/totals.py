"""What a unit of work came to, as it is kept beside the shards: its `done` record. Records add up."""

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

from pipelines.schemas import SHARD

#: Images listed by name where they cannot be read; all are counted.
LISTED = 20
#: Counts that a sum holds at most: product types are sellers' text, as many as there are images at worst. Beyond it
#: the rows of the rarest ones are counted as OTHER_TYPES.
MOST_COUNTS, OTHER_TYPES = 20_000, "other types"
#: Pairs on either side of --min-quality that the report shows.
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
    """What was done; adds up over units."""

    counts: Counter[str] = field(default_factory=Counter)  # 'kind/key/key' -> n
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)  # (image_id, code, message), bounded
    fingerprint: int = 0  # sum of the rows' hashes modulo 2^256: whatever their order and files

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Count a training row."""
        keys = (row["defect"], row["pairing"], row["split"], row["product_type"] or "unknown")
        self.counts["rows/" + "/".join(key.replace("/", " ") for key in keys)] += 1
        self.fingerprint = (self.fingerprint + _row_hash(row)) % 2**256

    def add_unreadable(self, image_id: str, code: str, message: str, count: int = 1) -> None:
        """Count an entry (or `count` alike) whose image cannot be read."""
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
        """Halve the counts, so that the next merges need not."""
        by_type: dict[str, Counter[str]] = {}
        for key, count in self.counts.items():
            task, _, product_type = key.rpartition("/")
            if key.startswith("rows/") and product_type != OTHER_TYPES:
                by_type.setdefault(product_type, Counter())[task] = count
        kept = len(self.counts) - sum(map(len, by_type.values()))
        for product_type in sorted(by_type, key=lambda name: (-by_type[name].total(), name)):
            tasks = by_type[product_type]
            kept += len(tasks)
            if kept > MOST_COUNTS // 2:
                for task, count in tasks.items():
                    del self.counts[f"{task}/{product_type}"]
                    self.counts[f"{task}/{OTHER_TYPES}"] += count

    def to_json(self) -> str:
        """As text."""
        return json.dumps([self.counts, self.unreadable, f"{self.fingerprint:x}"])

    @staticmethod
    def from_json(text: str) -> "Totals":
        """Inverse of `to_json`."""
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
    """Totals of a unit (or of all units), its shards, and what the report shows of it.

    accepted: the worst masks that were trusted, the worst first. rejected: the best that were not, the best first. Both
    hold SHOWN at most.
    """

    totals: Totals = field(default_factory=Totals)
    shards: list[str] = field(default_factory=list)
    accepted: list[Example] = field(default_factory=list)
    rejected: list[Example] = field(default_factory=list)

    def wants(self, quality: float, image_id: str, accepted: bool) -> bool:
        """Whether an example of this quality would be kept: its pictures are made for that only."""
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
        """As a parquet file of one row."""
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
        """Inverse of `to_bytes`."""
        [row] = pq.read_table(pa.BufferReader(data)).to_pylist()
        return UnitRecord(
            Totals.from_json(row["totals"]),
            row["shards"],
            [Example(**example) for example in row["accepted"]],
            [Example(**example) for example in row["rejected"]],
        )


def _closeness(accepted: bool) -> Any:
    """Sort key: how close an example is to the threshold, the closest first."""
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
