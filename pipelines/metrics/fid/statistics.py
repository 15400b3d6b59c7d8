"""Features of a set of images, and the mean and covariance from a `.npz` file."""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.errors import ConfigurationError

#: Features kept per set; 80 MB in float32 at 2048 dimensions.
CAP = 10_000


class FeatureSet:
    """Feature vectors of images, at most `cap`, in the order of the hashes of their ids.

    Above `cap` it keeps the vectors with the smallest hashes: a uniform sample. Neither sample nor order depends on the
    order of additions and merges.
    """

    def __init__(self, dimension: int = 2048, cap: int = CAP) -> None:
        """Start with an empty set of `dimension`-vectors that keeps at most `cap` of them."""
        self.dimension = dimension
        self.cap = cap
        self.added = 0
        self._keys: list[np.ndarray] = []  # uint64 (k,) each, parallel to _rows
        self._rows: list[np.ndarray] = []  # float32 (k,d) each

    @property
    def n(self) -> int:
        """Number of vectors kept, out of those `added`."""
        return min(self.added, self.cap)

    @property
    def features(self) -> np.ndarray:
        """The kept vectors, float32 (n,d)."""
        self._sort()
        return self._rows[0]

    def add(self, features: np.ndarray, ids: Sequence[str] | None = None) -> None:
        """Add rows of float (N,d). `ids`: N image ids; without them the rows' own bytes are hashed.

        Raises ValueError for another shape or values that are not finite.
        """
        rows = np.ascontiguousarray(features, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.dimension or (ids is not None and len(ids) != len(rows)):
            raise ValueError(f"features must have shape (N,{self.dimension}) with N ids, not {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("features must be finite")
        contents = [row.tobytes() for row in rows] if ids is None else [name.encode() for name in ids]
        self._extend(np.array([_key(content) for content in contents], np.uint64), rows, len(rows))

    def merge(self, other: "FeatureSet") -> None:
        """Add the vectors of `other`, which has the same dimension and cap."""
        self._extend(other._sort(), other.features, other.added)

    def _extend(self, keys: np.ndarray, rows: np.ndarray, added: int) -> None:
        self._keys.append(keys)
        self._rows.append(rows)
        self.added += added
        if sum(map(len, self._keys)) > 2 * self.cap:  # not in every call, because it copies all
            self._sort()

    def _sort(self) -> np.ndarray:
        """Make one sorted block of at most `cap` vectors, and return its keys."""
        keys = np.concatenate([np.empty(0, np.uint64), *self._keys])
        rows = np.concatenate([np.empty((0, self.dimension), np.float32), *self._rows])
        order = np.argsort(keys, kind="stable")[: self.cap]
        self._keys, self._rows = [keys[order]], [rows[order]]
        return self._keys[0]


@dataclass(frozen=True)
class Moments:
    """Mean and covariance alone, from a `.npz` file: without count, so without KID."""

    mu: np.ndarray  # float64 (d,)
    sigma: np.ndarray  # float64 (d,d)

    @property
    def dimension(self) -> int:
        """The dimension d."""
        return len(self.mu)

    @classmethod
    def from_npz(cls, data: bytes, name: str, dimension: int = 2048) -> "Moments":
        """Read statistics in pytorch-fid's format; `name` (the file's URI) appears in errors.

        Raises ConfigurationError unless it holds finite `mu` (dimension,) and symmetric `sigma` (dimension,dimension).
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
                f"{name}: sigma is not a covariance matrix, or mu or sigma is not finite; make it again"
            )
        return cls(mu, (sigma + sigma.T) / 2)


def _key(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
