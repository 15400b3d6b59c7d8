"""Held-back photos and objects, which no training has seen according to the project's own split."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.contracts.hashing import hash_number
from pipelines.contracts.splits import TEST, split_of
from pipelines.images.decode import decode_image
from pipelines.preparation.unit.mask_quality import mask_quality
from pipelines.synthesis.defects.foreground import foreground, soft_edges, with_holes, without_specks

CLOTHING, OBJECTS = "clothing", "objects"
#: Masks below this quality are not trusted; preparation's default for pairs.
MIN_QUALITY = 0.6
#: Mask levels below this are the faint traces that networks leave far from any product.
FAINT = 10


class Sample(NamedTuple):
    """A product. photo: uint8 (H,W,3). mask: uint8 (H,W), 255 is product, or None without a trusted one.

    white: uint8 (H,W,3), the product on white (None without a mask).
    """

    image_id: str
    kind: str
    product_type: str
    photo: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    white: NDArray[np.uint8] | None


def clothing(path: Path, limit: int | None, split: str = TEST) -> list[Sample]:
    """Return sellers' photos of one side of the split, at most `limit`, ordered by hash."""
    samples = []
    for row in _rows(path, split, limit):
        photo, mask = decode_image(row["image"]), decode_image(row["mask"])[..., 0]
        trusted = mask_quality(photo, mask) >= MIN_QUALITY
        mask = np.where(mask < FAINT, 0, mask).astype(np.uint8)
        samples.append(
            Sample(
                row["image_id"],
                CLOTHING,
                row["product_type"],
                photo,
                mask if trusted else None,
                on_white(photo, mask) if trusted else None,
            )
        )
    return samples


def clean_objects(path: Path, limit: int | None) -> list[Sample]:
    """Return objects on white, with masks; `photo` has the product's own colours, for other backgrounds."""
    samples = []
    for row in _rows(path, TEST, limit, on_white=True):
        image, mask = decode_image(row["image"]), decode_image(row["mask"])[..., 0]
        mask = with_holes(image, without_specks(soft_edges(image, mask)))
        own = foreground(image, mask, 255)
        samples.append(Sample(row["image_id"], OBJECTS, row["product_type"], own, mask, on_white(own, mask)))
    return samples


def found_objects(path: Path, limit: int | None) -> list[Sample]:
    """Return objects on backgrounds of any kind, without masks."""
    return [
        Sample(row["image_id"], OBJECTS, row["product_type"], decode_image(row["image"]), None, None)
        for row in _rows(path, TEST, limit, on_white=False)
    ]


def on_white(photo: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the perfect composite: photo uint8 (H,W,3) over white through its mask uint8 (H,W)."""
    share = mask[..., None].astype(np.float32) / 255
    return np.rint(255 - share * (255 - photo.astype(np.float32))).astype(np.uint8)


def _rows(path: Path, split: str, limit: int | None, **wanted: bool) -> Iterator[dict]:
    """Return whole rows of one side of the split, ordered by the hash of their ids."""
    file = pq.ParquetFile(path)
    keys = file.read(columns=["image_id", *wanted]).to_pylist()
    chosen = [
        (hash_number("benchmark", key["image_id"]), key["image_id"])
        for key in keys
        if split_of(key["image_id"]) == split and all(key[name] == value for name, value in wanted.items())
    ]
    order = {image_id: position for position, (_, image_id) in enumerate(sorted(chosen)[:limit])}
    rows = [
        row
        for batch in file.iter_batches(batch_size=64)
        for row in batch.to_pylist()
        if row["image_id"] in order
    ]
    return iter(sorted(rows, key=lambda row: order[row["image_id"]]))
