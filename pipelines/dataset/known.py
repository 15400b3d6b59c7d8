"""Which image ids there are already: eight bytes each, the one thing in a preparation that grows on the driver."""

import hashlib
import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray


class KnownIds:
    """A set of image ids, kept as sorted 64-bit hashes: 80 MB for ten million.

    Two different ids have the same hash with a chance of 3 in a million among ten million; the second would then count
    as a duplicate and be left out.
    """

    def __init__(self, hashes: NDArray[np.uint64] | None = None) -> None:
        """hashes: (N,) in any order."""
        self.hashes: NDArray[np.uint64] = np.unique(hashes) if hashes is not None else np.empty(0, np.uint64)

    def has(self, image_ids: Sequence[str]) -> NDArray[np.bool_]:
        """(len(image_ids),): which of them are in the set."""
        return self._has(hash_ids(image_ids))

    def add(self, image_ids: Sequence[str]) -> NDArray[np.bool_]:
        """Add ids; returns (len(image_ids),): which of them are new. Of equal ones only the first is.

        Costs a copy of the whole set: add thousands at a time.
        """
        found = hash_ids(image_ids)
        new = np.zeros(len(found), bool)
        new[np.unique(found, return_index=True)[1]] = True
        new &= ~self._has(found)
        added = np.sort(found[new])
        self.hashes = np.insert(self.hashes, np.searchsorted(self.hashes, added), added)
        return new

    def _has(self, found: NDArray[np.uint64]) -> NDArray[np.bool_]:
        places = np.searchsorted(self.hashes, found)
        inside = places < len(self.hashes)
        known = np.zeros(len(found), bool)
        known[inside] = self.hashes[places[inside]] == found[inside]
        return known

    def merge(self, hashes: NDArray[np.uint64]) -> None:
        """Add what `hash_ids` made of ids."""
        self.hashes = np.union1d(self.hashes, hashes)

    def without(self, hashes: NDArray[np.uint64]) -> "KnownIds":
        """The set without what `hash_ids` made of some ids."""
        return KnownIds(np.setdiff1d(self.hashes, hashes))

    def to_bytes(self) -> bytes:
        """As a parquet file."""
        buffer = io.BytesIO()
        pq.write_table(pa.table({"hash": self.hashes}), buffer, compression="none", use_dictionary=False)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "KnownIds":
        """Inverse of `to_bytes`."""
        return KnownIds(pq.read_table(pa.BufferReader(data))["hash"].to_numpy())


def hash_ids(image_ids: Sequence[str]) -> NDArray[np.uint64]:
    """(N,): 64 bits of SHA-256 of each id. Any Python string has one."""
    digests = (hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() for name in image_ids)
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)
