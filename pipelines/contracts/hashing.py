"""Samples by hash: the same images in any order, on any number of machines, in every run.

An image belongs to the sample of size N where its hash is among the N smallest. A first pass over ids finds
the N-th smallest hash of each set; a second pass compares with that one number.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass

import numpy as np

from pipelines.contracts.splits import hash_number


def sample_hash(image_id: str) -> int:
    """64 bits of a hash of `image_id`; independent of the hash that splits train from test."""
    return hash_number("sample", image_id) >> 192


class Smallest:
    """The `n` smallest of the numbers seen; memory is bounded by a small multiple of `n`."""

    def __init__(self, n: int) -> None:
        """An empty set that will keep `n` numbers."""
        self.n = n
        self._kept = np.empty(0, np.uint64)

    def add(self, numbers: Iterable[int] | np.ndarray) -> None:
        """See numbers in 0..2^64-1, in any order and any division into calls."""
        fresh = numbers if isinstance(numbers, np.ndarray) else np.fromiter(numbers, np.uint64)
        both = np.concatenate([self._kept, fresh.astype(np.uint64)])
        self._kept = np.sort(both)[: self.n]

    @property
    def values(self) -> np.ndarray:
        """The kept numbers, uint64, ascending."""
        return self._kept

    def threshold(self, n: int | None = None) -> int | None:
        """The largest number of the sample of size `n` (default: of all kept): in the sample is what is not
        above it.

        None where nothing was seen: then nothing is in the sample.
        """
        taken = self._kept if n is None else self._kept[:n]
        return int(taken[-1]) if len(taken) else None


@dataclass(frozen=True)
class Sample:
    """Who is in the sample, for each set by name; a set without a threshold has no sample."""

    thresholds: dict[str, int]

    def only(self, names: Set[str]) -> "Sample":
        """The samples of these sets alone."""
        return Sample({name: threshold for name, threshold in self.thresholds.items() if name in names})

    def has(self, name: str, image_id: str) -> bool:
        """True where the image is in the sample of set `name`."""
        threshold = self.thresholds.get(name)
        return threshold is not None and sample_hash(image_id) <= threshold
