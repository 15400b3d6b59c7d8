"""Which image ids were listed before: eight bytes each, the one thing in a preparation that grows on the driver."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class KnownIds:
    """A set of image ids, kept as sorted 64-bit hashes: 80 MB for ten million.

    Two different ids have the same hash with a chance of 3 in a million among ten million; the second would then count
    as a duplicate and be left out.
    """

    def __init__(self) -> None:
        self.hashes: NDArray[np.uint64] = np.empty(0, np.uint64)

    def has(self, image_ids: Sequence[str]) -> NDArray[np.bool_]:
        """Return (len(image_ids),): which of them are in the set."""
        return self._has(hash_ids(image_ids))

    def add(self, image_ids: Sequence[str]) -> NDArray[np.bool_]:
        """Add ids; return (len(image_ids),): which of them are new. Of equal ones only the first is.

        Costs a copy of the whole set: add thousands at a time.
        """
        hashes = hash_ids(image_ids)
        new = np.zeros(len(hashes), bool)
        new[np.unique(hashes, return_index=True)[1]] = True
        new &= ~self._has(hashes)
        added = np.sort(hashes[new])
        self.hashes = np.insert(self.hashes, np.searchsorted(self.hashes, added), added)
        return new

    def _has(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        positions = np.searchsorted(self.hashes, hashes)
        inside = positions < len(self.hashes)
        known = np.zeros(len(hashes), bool)
        known[inside] = self.hashes[positions[inside]] == hashes[inside]
        return known


def hash_ids(image_ids: Sequence[str]) -> NDArray[np.uint64]:
    """Return (N,): 64 bits of SHA-256 of each id. Any Python string has one."""
    digests = (hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() for name in image_ids)
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)
