"""What tells that a row was done before: 128-bit hashes of all that decides it, and sorted sets of them.

128 bits, because sellers choose ids and bytes: among 64-bit hashes of a hundred million rows one that is already there
can be found on purpose, and its image would never be corrected.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.contracts.label_map import Route

#: Arrow type of a key.
KEY = pa.binary(16)
NUMPY_KEY = "S16"
#: No row's key: stands for null where arrays know none.
NO_KEY = bytes(16)

#: Stands for the route of a row that the run's detector labels: the same image gets the same labels.
DETECTED_ROUTE = "?"

#: Begins the version of an image whose hash the catalog tells.
TOLD = "sha256:"

#: Rows whose ids' hashes begin with the same 10 bits are counted together.
ID_BUCKETS = 1024

Keys = NDArray[np.bytes_]


def key_of(*parts: str | None) -> bytes:
    """16 bytes of BLAKE2b of `parts`; ("ab", "c") and ("a", "bc") have different ones, and so have None and ""."""
    text = "".join("-" if part is None else f"{len(part)}:{part}" for part in parts)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def route_text(route: Route, refuses_unknown: bool) -> str:
    """What of a row's labels decides the output: the defects in order, and whether unknown labels fail it."""
    return " ".join([*route.defects, "!"] if route.unknown and refuses_unknown else route.defects)


def work_key(image_id: str, route: str, identity: str, product_type: str | None = None) -> bytes:
    """Of what is to be done with an image, whatever its bytes. identity: model, configuration and output folder.

    product_type: where the label map has rules for some types only, which then decide what a detector's labels mean.
    """
    return key_of("work", image_id, route, identity, product_type)


def row_key(
    work: bytes, source_uri: str | None, product_type: str | None, version: str | None
) -> bytes | None:
    """Of everything in a manifest row that comes from the catalog. A row whose key is known is left as it is.

    version: what the storage says of the input (see `uploads.input_version`); without it there is no key.
    """
    return None if version is None else key_of("row", work.hex(), source_uri, product_type, version)


def image_key(work: bytes, sha256: str) -> bytes:
    """Of an image's bytes and what is to be done with them. An image whose key is known is not corrected again."""
    return key_of("image", work.hex(), sha256)


def id_keys(image_ids: Iterable[str]) -> Keys:
    """(N,): one key for each id."""
    return to_keys([key_of("id", image_id) for image_id in image_ids])


def to_keys(values: Sequence[bytes]) -> Keys:
    """(N,): keys as an array."""
    return np.frombuffer(b"".join(values), NUMPY_KEY)


def keys_column(keys: Keys) -> pa.Array:
    """Keys as an Arrow array of KEY."""
    return pa.FixedSizeBinaryArray.from_buffers(KEY, len(keys), [None, pa.py_buffer(keys.tobytes())])


def column_keys(column: pa.ChunkedArray) -> Keys:
    """The keys of a KEY column that are not null."""
    array = column.combine_chunks().drop_null()
    if not len(array):
        return to_keys([])
    return np.frombuffer(array.buffers()[1], NUMPY_KEY, len(array), 16 * array.offset)


def keys_or_zero(column: pa.ChunkedArray) -> Keys:
    """The keys of a KEY column, NO_KEY for null."""
    return to_keys([NO_KEY if key is None else key for key in column.to_pylist()])


class KeySet:
    """A sorted multiset of keys: 16 bytes each, in one array that processes of a machine can share."""

    def __init__(self, keys: Keys | None = None) -> None:
        """keys: (N,) in any order."""
        self.keys: Keys = np.empty(0, NUMPY_KEY) if keys is None else np.sort(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def copies(self, keys: Keys) -> NDArray[np.int64]:
        """(len(keys),): how often each occurs in the set."""
        return np.searchsorted(self.keys, keys, "right") - np.searchsorted(self.keys, keys, "left")

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """(len(keys),): which of them are in the set."""
        return self.copies(keys) > 0


@dataclass
class IdSums:
    """Which ids, and how often each, as numbers that do not grow: by bucket, rows and the sum of their hashes.

    Two collections of ids with equal sums are equal: that others are has a chance of 2^-128 (sums modulo 2^64 of both
    halves). Where they differ, the bucket says in which 1/1024 of the ids to look.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(ID_BUCKETS, np.int64))
    sums: NDArray[np.uint64] = field(default_factory=lambda: np.zeros((2, ID_BUCKETS), np.uint64))

    @property
    def rows(self) -> int:
        """Ids added."""
        return int(self.counts.sum())

    def add(self, keys: Keys) -> None:
        """Add `id_keys`."""
        bucket = id_buckets(keys)
        halves = np.frombuffer(keys.tobytes().ljust(16 * len(keys), b"\0"), ">u8").reshape(-1, 2)
        self.counts += np.bincount(bucket, minlength=ID_BUCKETS)
        for sums, half in zip(self.sums, halves.T, strict=True):
            np.add.at(sums, bucket, half.astype(np.uint64))

    def merge(self, other: "IdSums") -> None:
        """Add what another has seen."""
        self.counts += other.counts
        self.sums += other.sums

    def different(self, other: "IdSums") -> list[int]:
        """The buckets whose ids are not the same."""
        same = (self.counts == other.counts) & (self.sums == other.sums).all(axis=0)
        return [int(bucket) for bucket in np.flatnonzero(~same)]

    def to_bytes(self) -> bytes:
        """24 KB, for an Arrow column."""
        return self.counts.astype("<i8").tobytes() + self.sums.astype("<u8").tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> "IdSums":
        """Inverse of `to_bytes`."""
        counts = np.frombuffer(data[: 8 * ID_BUCKETS], "<i8").astype(np.int64)
        return IdSums(counts, np.frombuffer(data[8 * ID_BUCKETS :], "<u8").astype(np.uint64).reshape(2, -1))


def id_buckets(keys: Keys) -> NDArray[np.int64]:
    """(N,): the bucket of each of `id_keys`, 0 to ID_BUCKETS - 1."""
    leading = np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, 16)[:, :2].astype(np.int64)
    return (leading[:, 0] << 8 | leading[:, 1]) * ID_BUCKETS >> 16
