"""Samples images by hash: the same ones in any order, on any number of machines, in every run.

An image is in the sample of size N if its hash is among the N smallest. A first pass over ids finds the N-th smallest
hash of each set; a second pass compares hashes with that number.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass

import numpy as np

from pipelines.contracts.hashing import hash_number


def sample_hash(image_id: str) -> int:
    """Return 64 bits of a hash of `image_id`, independent of the hash that splits train from test."""
    return hash_number("sample", image_id) >> 192


class Smallest:
    """Keep the `n` smallest of the numbers added; memory is bounded by a small multiple of `n`."""

    def __init__(self, n: int) -> None:
        """Start empty. n: how many numbers to keep."""
        self.n = n
        self._kept = np.empty(0, np.uint64)

    def add(self, numbers: Iterable[int] | np.ndarray) -> None:
        """Add numbers in 0..2^64-1. Their order and division into calls do not matter."""
        fresh = numbers if isinstance(numbers, np.ndarray) else np.fromiter(numbers, np.uint64)
        both = np.concatenate([self._kept, fresh.astype(np.uint64)])
        self._kept = np.sort(both)[: self.n]

    @property
    def values(self) -> np.ndarray:
        """Return the kept numbers, uint64, ascending."""
        return self._kept

    def threshold(self, n: int | None = None) -> int | None:
        """Return the largest number of the sample of size `n` (default: all kept numbers).

        Numbers up to it are in the sample. None if nothing was added: then the sample is empty.
        """
        taken = self._kept if n is None else self._kept[:n]
        return int(taken[-1]) if len(taken) else None


@dataclass(frozen=True)
class Sample:
    """Decide which images are in the sample of each named set; a set without a threshold has no sample."""

    thresholds: dict[str, int]

    def only(self, names: Set[str]) -> "Sample":
        """Return the samples of these sets only."""
        return Sample({name: threshold for name, threshold in self.thresholds.items() if name in names})

    def has(self, name: str, image_id: str) -> bool:
        """Return True if the image is in the sample of set `name`."""
        threshold = self.thresholds.get(name)
        return threshold is not None and sample_hash(image_id) <= threshold
