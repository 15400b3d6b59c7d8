"""Feature statistics of a set of images: float64, mergeable, the same in whatever order they are merged.

Method, section 6: sums of features and of their outer products are added in float64. A set of at most `cap`
images keeps its features instead and derives both from them: a part of 64 images is then 0.5 MB to ship and
not 32, the covariance loses no digits to `O − n μμᵀ`, and the distance of small sets has a cheaper and more
stable form.
"""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.errors import ConfigurationError

#: Features kept per set, 80 MB in float32 at 2048 dimensions. KID samples from these.
CAP = 10_000


class FeatureStatistics:
    """Count, mean and covariance of feature vectors, and up to `cap` of the vectors themselves.

    Above `cap` the kept vectors are those with the smallest hash of their id: a uniform sample that does not
    depend on the order of additions and merges.
    """

    def __init__(self, dimension: int = 2048, cap: int = CAP) -> None:
        """An empty set of `dimension`-vectors that keeps at most `cap` of them."""
        self.dimension = dimension
        self.cap = cap
        self.n = 0
        self._keys: list[np.ndarray] = []  # uint64 (k,) each, beside
        self._kept: list[np.ndarray] = []  # float32 (k,d) each
        self._sum: np.ndarray | None = None  # float64 (d,); None while every vector is kept
        self._outer: np.ndarray | None = None  # float64 (d,d); likewise

    @property
    def complete(self) -> bool:
        """True while every vector added is kept."""
        return self._outer is None

    @property
    def features(self) -> np.ndarray:
        """The kept vectors, float32 (k,d), in the order of their ids' hashes."""
        self._consolidate()
        return self._kept[0]

    def add(self, features: np.ndarray, ids: Sequence[str] | None = None) -> None:
        """Add rows of float (N,d). `ids`, N image ids, make order and sample reproducible to the last digit.

        Without ids the rows' own bytes are hashed. Raises ValueError for another shape or values that are not
        finite.
        """
        rows = np.ascontiguousarray(features, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.dimension or (ids is not None and len(ids) != len(rows)):
            raise ValueError(f"features of shape (N,{self.dimension}) and N ids wanted, not {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("features must be finite")
        contents = [row.tobytes() for row in rows] if ids is None else [name.encode() for name in ids]
        self._extend(np.array([_key(content) for content in contents], np.uint64), rows)
        if self._sum is not None and self._outer is not None:
            exact = rows.astype(np.float64)
            self._sum += exact.sum(axis=0)
            self._outer += exact.T @ exact
        self.n += len(rows)
        self._spill()

    def merge(self, other: "FeatureStatistics") -> None:
        """Add the vectors of `other`, which stays as is. Raises ValueError for another dimension or cap."""
        if (other.dimension, other.cap) != (self.dimension, self.cap):
            raise ValueError(
                f"cannot merge dimension {other.dimension}, cap {other.cap} into {self.dimension}, {self.cap}"
            )
        if not (self.complete and other.complete):
            (sum_a, outer_a), (sum_b, outer_b) = self._sums(), other._sums()
            self._sum, self._outer = sum_a + sum_b, outer_a + outer_b
        for keys, rows in list(zip(other._keys, other._kept, strict=True)):
            self._extend(keys, rows)
        self.n += other.n
        self._spill()

    def mean(self) -> np.ndarray:
        """float64 (d,). Raises ValueError for an empty set."""
        if self.n < 1:
            raise ValueError("the mean needs at least one sample")
        if self._sum is not None:
            return self._sum / self.n
        return np.asarray(self.features.mean(axis=0, dtype=np.float64))

    def covariance(self) -> np.ndarray:
        """Unbiased (n−1), float64 (d,d). Raises ValueError for fewer than two samples."""
        if self.n < 2:
            raise ValueError("a covariance needs at least two samples")
        mean = self.mean()
        if self._outer is not None:
            return (self._outer - self.n * np.outer(mean, mean)) / (self.n - 1)
        centred = self.features - mean
        return np.asarray(centred.T @ centred / (self.n - 1))

    def to_npz(self) -> bytes:
        """Mean and covariance as a `.npz` that pytorch-fid reads: `mu` (d,), `sigma` (d,d), float64."""
        return _npz(mu=self.mean(), sigma=self.covariance())

    def to_bytes(self) -> bytes:
        """Everything, as `.npz` without pickles: a value for a binary column between tasks."""
        self._consolidate()
        sums = {} if self._sum is None or self._outer is None else {"sum": self._sum, "outer": self._outer}
        header = np.array([self.dimension, self.cap, self.n], np.int64)
        return _npz(header=header, keys=self._keys[0], features=self._kept[0], **sums)

    @classmethod
    def from_bytes(cls, data: bytes) -> "FeatureStatistics":
        """The inverse of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as content:
            dimension, cap, n = (int(value) for value in content["header"])
            self = cls(dimension, cap)
            self.n = n
            self._extend(content["keys"], content["features"])
            if "outer" in content:
                self._sum, self._outer = content["sum"], content["outer"]
        return self

    def _extend(self, keys: np.ndarray, rows: np.ndarray) -> None:
        self._keys.append(keys)
        self._kept.append(rows)

    def _sums(self) -> tuple[np.ndarray, np.ndarray]:
        if self._sum is not None and self._outer is not None:
            return self._sum, self._outer
        exact = self.features.astype(np.float64)
        return exact.sum(axis=0), exact.T @ exact

    def _spill(self) -> None:
        """Above the cap go over to sums, and drop vectors once there are twice too many (each drop sorts)."""
        if self.n <= self.cap:
            return
        if self.complete:
            self._sum, self._outer = self._sums()
        if sum(len(keys) for keys in self._keys) > 2 * self.cap:
            self._consolidate()

    def _consolidate(self) -> None:
        """One sorted block of kept vectors instead of many, cut to the cap once the sums hold the rest."""
        keys = np.concatenate([np.empty(0, np.uint64), *self._keys])
        rows = np.concatenate([np.empty((0, self.dimension), np.float32), *self._kept])
        order = np.argsort(keys, kind="stable")
        if not self.complete:
            order = order[: self.cap]
        if len(self._keys) != 1 or len(order) != len(keys) or np.any(order[1:] < order[:-1]):
            self._keys, self._kept = [keys[order]], [rows[order]]


@dataclass(frozen=True)
class Moments:
    """Mean and covariance alone, as a `.npz` holds them: no count, nothing to merge, no KID."""

    mu: np.ndarray  # float64 (d,)
    sigma: np.ndarray  # float64 (d,d)

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.mu)

    def mean(self) -> np.ndarray:
        """float64 (d,)."""
        return self.mu

    def covariance(self) -> np.ndarray:
        """float64 (d,d)."""
        return self.sigma

    @classmethod
    def from_npz(cls, data: bytes, name: str, dimension: int = 2048) -> "Moments":
        """Read statistics in pytorch-fid's format; `name` (the file's URI) appears in complaints.

        Raises ConfigurationError unless it holds finite `mu` (dimension,) and symmetric `sigma`
        (dimension,dimension).
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as content:
                mu, sigma = (np.asarray(content[key], dtype=np.float64) for key in ("mu", "sigma"))
        except (
            ValueError,
            TypeError,
            KeyError,
            OSError,
            EOFError,
            AttributeError,
            zipfile.BadZipFile,
        ) as error:
            raise ConfigurationError(
                f"{name}: not statistics in pytorch-fid's format (a .npz with arrays mu and sigma): {error}"
            ) from error
        if mu.shape != (dimension,) or sigma.shape != (dimension, dimension):
            raise ConfigurationError(
                f"{name}: mu {mu.shape} and sigma {sigma.shape} are not of {dimension} dimensions; "
                f"make it with `pytorch-fid --save-stats --dims {dimension}`"
            )
        if not (
            np.isfinite(mu).all()
            and np.isfinite(sigma).all()
            and np.allclose(sigma, sigma.T, rtol=1e-4, atol=1e-6)
        ):
            raise ConfigurationError(
                f"{name}: sigma is no covariance matrix, or mu or sigma is not finite; make it anew"
            )
        return cls(mu, (sigma + sigma.T) / 2)


def _key(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
