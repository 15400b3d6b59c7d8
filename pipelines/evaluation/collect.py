"""Collects the measures of images by set: features, errors of pairs, pictures. Their number is bounded by --samples."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.metrics.fid.inception import FEATURE_DIMENSION

logger = logging.getLogger(__name__)

#: Most images left out that the log names; all are counted.
_NAMED = 20


class SetName(NamedTuple):
    """A set of images: `measure`'s kind, the bundle's index on the command line (-1: none), and the defect."""

    kind: str
    bundle: int
    defect: str


class Picture(NamedTuple):
    """An image for a grid: PNG, and the size of the stored image."""

    png: bytes
    width: int
    height: int


@dataclass
class _Image:
    row: str
    photo: str
    features: np.ndarray | None
    errors: tuple[float, float] | None


@dataclass(frozen=True)
class ImageSet:
    """The images of one set, in the order of their rows.

    photos: n ids. features: float32 (n,2048); None without FID weights. psnr, l1: float64 (pairs,).
    """

    photos: list[str]
    features: np.ndarray | None
    psnr: np.ndarray
    l1: np.ndarray


@dataclass
class Collection:
    """Collects tables of `measure.MEASURES`; the sets do not depend on the tables' order.

    problems: number of images left out, by set and reason. pictures: by defect, row and set.
    """

    problems: Counter[tuple[SetName, str]] = field(default_factory=Counter)
    pictures: dict[str, dict[str, dict[SetName, Picture]]] = field(default_factory=dict)
    _images: dict[SetName, list[_Image]] = field(default_factory=dict)

    def add(self, table: pa.Table) -> tuple[int, int]:
        """Add measures; return the number of rows of the shards that they cover, and of those with a failed image."""
        failed = set()
        for one in table.to_pylist():
            name = SetName(one["kind"], one["bundle"], one["defect"])
            if one["problem"] is not None:
                failed.add(one["row"])
                self.problems[name, one["problem"]] += 1
                if sum(self.problems.values()) <= _NAMED:
                    logger.warning(
                        "%s (%s, %s) is left out: %s", *(one["row"], name.kind, name.defect, one["problem"])
                    )
                continue
            features = one["features"]
            vector = None if features is None else np.frombuffer(features, np.float32)
            errors = None if one["psnr"] is None else (one["psnr"], one["l1"])
            self._images.setdefault(name, []).append(_Image(one["row"], one["image_id"], vector, errors))
            if one["picture"] is not None:
                rows = self.pictures.setdefault(one["defect"], {})
                rows.setdefault(one["row"], {})[name] = Picture(one["picture"], one["width"], one["height"])
        return len(set(table.column("row").to_pylist())), len(failed)

    def photos(self, kinds: tuple[str, ...]) -> dict[str, tuple[tuple[str, ...], tuple[SetName, ...]]]:
        """Return the photos of all sets of these kinds, each with its defects and its sets, both sorted."""
        sets: dict[str, set[SetName]] = {}
        for name, images in self._images.items():
            if name.kind in kinds:
                for image in images:
                    sets.setdefault(image.photo, set()).add(name)
        return {
            photo: (tuple(sorted({name.defect for name in names})), tuple(sorted(names)))
            for photo, names in sets.items()
        }

    def set(self, name: SetName) -> ImageSet:
        """Return one set; it is empty if nothing was measured."""
        images = sorted(self._images.get(name, []), key=lambda image: image.row)
        vectors = [image.features for image in images if image.features is not None]
        empty = np.empty((0, FEATURE_DIMENSION), np.float32)
        errors = np.array([image.errors for image in images if image.errors is not None]).reshape(-1, 2)
        return ImageSet(
            photos=[image.photo for image in images],
            features=np.stack(vectors) if vectors else (None if images else empty),
            psnr=errors[:, 0],
            l1=errors[:, 1],
        )
