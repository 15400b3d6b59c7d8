"""Keys by which a run recognises rows that are done: 128-bit hashes of everything that decides a row, in sorted sets.

128 bits, because sellers choose ids and bytes. Among 64-bit hashes of a hundred million rows, a seller could search for
one that exists already, and the new image would never be corrected.
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
#: The key of no row: stands for null in arrays that have no null.
NO_KEY = bytes(16)

#: Stands for the route of a row that the run's detector labels. The same image gets the same labels.
DETECTED_ROUTE = "?"

#: Begins the version of an image whose hash the catalog states.
STATED_SHA256 = "sha256:"

#: Rows whose ids' hashes begin with the same 10 bits are counted together.
ID_BUCKETS = 1024

Keys = NDArray[np.bytes_]


def key_of(*parts: str | None) -> bytes:
    """Return 16 bytes of BLAKE2b of `parts`; ("ab", "c") and ("a", "bc") differ, and so do None and ""."""
    text = "".join("-" if part is None else f"{len(part)}:{part}" for part in parts)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def route_text(route: Route, refuses_unknown: bool) -> str:
    """Return what a row's labels decide about its output: the defects in order, and whether unknown labels fail it."""
    return " ".join([*route.defects, "!"] if route.unknown and refuses_unknown else route.defects)


def work_key(image_id: str, route: str, identity: str, product_type: str | None = None) -> bytes:
    """Return the key of what a run does with an image, whatever its bytes. identity: model, configuration and output.

    product_type: only if the label map has rules for some types, because these decide what a detector's labels mean.
    """
    return key_of("work", image_id, route, identity, product_type)


def row_key(
    work: bytes, source_uri: str | None, product_type: str | None, version: str | None
) -> bytes | None:
    """Return the key of everything in a manifest row that comes from the catalog. A row whose key is known stays as is.

    version: of the input, as the storage states it (see `uploads.input_version`); None gives no key.
    """
    return None if version is None else key_of("row", work.hex(), source_uri, product_type, version)


def image_key(work: bytes, sha256: str) -> bytes:
    """Return the key of an image's bytes and the work on them. An image whose key is known is not corrected again."""
    return key_of("image", work.hex(), sha256)


def id_keys(image_ids: Iterable[str]) -> Keys:
    """Return (N,): one key for each id."""
    return to_keys([key_of("id", image_id) for image_id in image_ids])


def to_keys(values: Sequence[bytes]) -> Keys:
    """Return keys as an array (N,)."""
    return np.frombuffer(b"".join(values), NUMPY_KEY)


def keys_column(keys: Keys) -> pa.Array:
    """Return keys as an Arrow array of KEY."""
    return pa.FixedSizeBinaryArray.from_buffers(KEY, len(keys), [None, pa.py_buffer(keys.tobytes())])


def column_keys(column: pa.ChunkedArray) -> Keys:
    """Return the keys of a KEY column that are not null."""
    array = column.combine_chunks().drop_null()
    if not len(array):
        return to_keys([])
    return np.frombuffer(array.buffers()[1], NUMPY_KEY, len(array), 16 * array.offset)


def keys_or_zero(column: pa.ChunkedArray) -> Keys:
    """Return the keys of a KEY column, NO_KEY for null."""
    return to_keys([NO_KEY if key is None else key for key in column.to_pylist()])


class KeySet:
    """A sorted multiset of keys: 16 bytes each, in one array that the processes of a machine can share."""

    def __init__(self, keys: Keys | None = None) -> None:
        """Sort the keys. keys: (N,) in any order; None: no keys."""
        self.keys: Keys = np.empty(0, NUMPY_KEY) if keys is None else np.sort(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def copies(self, keys: Keys) -> NDArray[np.int64]:
        """Return (len(keys),): how often the set has each key."""
        return np.searchsorted(self.keys, keys, "right") - np.searchsorted(self.keys, keys, "left")

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Return (len(keys),): whether the set has each key."""
        return self.copies(keys) > 0


@dataclass
class IdSums:
    """A summary of a multiset of ids, of constant size: for each bucket, the rows and the sums of their hashes.

    Multisets with equal sums are equal, except with a probability of 2^-128 (the halves are summed modulo 2^64). If
    they differ, the bucket says in which 1/1024 of the ids.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(ID_BUCKETS, np.int64))
    sums: NDArray[np.uint64] = field(default_factory=lambda: np.zeros((2, ID_BUCKETS), np.uint64))

    @property
    def rows(self) -> int:
        """Number of ids added."""
        return int(self.counts.sum())

    def add(self, keys: Keys) -> None:
        """Add ids by their `id_keys`."""
        bucket = id_buckets(keys)
        halves = np.frombuffer(keys.tobytes().ljust(16 * len(keys), b"\0"), ">u8").reshape(-1, 2)
        self.counts += np.bincount(bucket, minlength=ID_BUCKETS)
        for sums, half in zip(self.sums, halves.T, strict=True):
            np.add.at(sums, bucket, half.astype(np.uint64))

    def merge(self, other: "IdSums") -> None:
        """Add the ids of another summary."""
        self.counts += other.counts
        self.sums += other.sums

    def different(self, other: "IdSums") -> list[int]:
        """Return the buckets whose ids differ."""
        same = (self.counts == other.counts) & (self.sums == other.sums).all(axis=0)
        return [int(bucket) for bucket in np.flatnonzero(~same)]

    def to_bytes(self) -> bytes:
        """Return 24 KB for an Arrow column."""
        return self.counts.astype("<i8").tobytes() + self.sums.astype("<u8").tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> "IdSums":
        """Return the summary that `to_bytes` gave."""
        counts = np.frombuffer(data[: 8 * ID_BUCKETS], "<i8").astype(np.int64)
        return IdSums(counts, np.frombuffer(data[8 * ID_BUCKETS :], "<u8").astype(np.uint64).reshape(2, -1))


def id_buckets(keys: Keys) -> NDArray[np.int64]:
    """Return (N,): the bucket of each of `id_keys`, 0 to ID_BUCKETS - 1."""
    leading = np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, 16)[:, :2].astype(np.int64)
    return (leading[:, 0] << 8 | leading[:, 1]) * ID_BUCKETS >> 16
