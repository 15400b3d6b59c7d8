"""Training rows from one photo and its foreground mask: the three defects of Li et al. (2022).

- `non_white_background`: x is the seller's photo, y the photo composited on white through the mask.
- `watermark`: y is the composite, x the same with a mark over it.
- `wrong_angle`: y is the composite, x the same turned.

A photo without a mask, or with one that is not to be trusted, becomes one row of `non_white_background` with
x alone (pairing 'unpaired'): it still shows what uploads look like, and no bad y is ever taken for a real
clean image. Marks and turns are drawn after resizing, and both images are encoded alike, so the pairs are
exact but for JPEG's rounding.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigurationError
from pipelines.dataset.mask_quality import mask_quality
from pipelines.decode import ImageError, decode_image
from pipelines.defects import add_watermark, composite_on_white, tilt
from pipelines.encode import encode_image
from pipelines.resize import resize_bicubic
from pipelines.splits import hash_number, split_of

BACKGROUND, WATERMARK, ANGLE = "non_white_background", "watermark", "wrong_angle"
#: What this module can make, in the order of the rows.
DEFECTS = (BACKGROUND, WATERMARK, ANGLE)
#: JPEG at this quality (4:4:4) is within about one level of 255 on average; PNG is 3 to 5 times larger.
JPEG_QUALITY = 95


@dataclass(frozen=True)
class PhotoSettings:
    """What decides a photo's rows, besides the photo."""

    groups: Mapping[str, str]  # defect -> its group in the label map; only these defects are made
    seed: int = 0  # another seed draws other marks and turns; the split does not depend on it
    max_side: int = 384  # longest side of stored images; raise it to train above 256
    min_quality: float = (
        0.6  # masks below make no target; raise it where composites look cut, lower it where photos are few
    )

    def __post_init__(self) -> None:
        """Raise ConfigurationError for a value out of range."""
        if not 32 <= self.max_side <= 4096:
            raise ConfigurationError(f"--max-side must be from 32 to 4096 pixels, got {self.max_side}")
        if not 0 <= self.min_quality <= 1:
            raise ConfigurationError(f"--min-quality must be from 0 to 1, got {self.min_quality}")
        if not set(self.groups) & set(DEFECTS):
            raise ConfigurationError(
                f"--label-map names none of the defects that can be made: {', '.join(DEFECTS)}"
            )


@dataclass(frozen=True)
class Photo:
    """A decoded photo at its stored size."""

    image_id: str
    product_type: str | None
    image: NDArray[np.uint8]  # (H, W, 3)
    clean: NDArray[np.uint8] | None  # the product on white, (H, W, 3); None where no mask can be trusted
    mask_state: str  # 'good' | 'doubtful' | 'missing' | 'unreadable' | 'wrong_size'


def read_photo(record: Mapping[str, Any], settings: PhotoSettings) -> Photo:
    """Decode a record of image_id, image, mask (may be None), product_type.

    Raises ImageError where the photo cannot be read; a mask that cannot be read counts as none.
    """
    image = decode_image(record["image"] or b"")
    mask, state = _read_mask(record.get("mask"), image)
    if mask is not None and mask_quality(image, mask) < settings.min_quality:
        mask, state = None, "doubtful"
    image = _fit(image, settings.max_side)
    clean = None
    if mask is not None:
        alpha = _fit(np.repeat(mask[..., None], 3, axis=2), settings.max_side)[..., 0]
        clean = composite_on_white(image, alpha.astype(np.float32) / 255)
    return Photo(record["image_id"], record.get("product_type"), image, clean, state)


def training_rows(photo: Photo, settings: PhotoSettings) -> Iterator[dict[str, Any]]:
    """Rows of schemas.SHARD for one photo: one per defect with a good mask, else the background's x alone.

    All carry the photo's own `image_id`: (image_id, defect) is the key, and the split follows the photo.
    """
    target = None if photo.clean is None else encode_image(photo.clean, "jpeg", quality=JPEG_QUALITY)
    for defect in possible_defects(photo, settings):
        source = source_image(photo, defect, settings.seed)
        yield {
            "image_id": photo.image_id,
            "source": encode_image(source, "jpeg", quality=JPEG_QUALITY),
            "target": target,
            "pairing": "unpaired" if target is None else "paired",
            "group": settings.groups[defect],
            "defect": defect,
            "product_type": photo.product_type,
            "split": split_of(photo.image_id),
        }


def possible_defects(photo: Photo, settings: PhotoSettings) -> list[str]:
    """The defects that can be shown on this photo; without a clean image only its background."""
    return [
        defect
        for defect in DEFECTS
        if defect in settings.groups and (defect == BACKGROUND or photo.clean is not None)
    ]


def source_image(photo: Photo, defect: str, seed: int) -> NDArray[np.uint8]:
    """The defective image x (H, W, 3) of a possible defect: a function of photo, defect and seed."""
    if defect == BACKGROUND or photo.clean is None:
        return photo.image
    rng = np.random.default_rng(hash_number(seed, photo.image_id, defect))
    return add_watermark(photo.clean, rng) if defect == WATERMARK else tilt(photo.clean, rng)


def catalog_row(photo: Photo, settings: PhotoSettings) -> dict[str, Any] | None:
    """A row of schemas.CATALOG: the photo with one of its possible defects, each equally often, and labels.

    None where no defect can be shown. The image is the `source` that the shards hold for that defect.
    """
    possible = possible_defects(photo, settings)
    if not possible:
        return None
    defect = possible[hash_number("catalog", photo.image_id) % len(possible)]
    source = source_image(photo, defect, settings.seed)
    return {
        "image_id": photo.image_id,
        "image": encode_image(source, "jpeg", quality=JPEG_QUALITY),
        "uri": None,
        "labels": [{"label": defect, "score": 1.0}],
        "product_type": photo.product_type,
    }


def reference_row(photo: Photo) -> dict[str, Any] | None:
    """A row of schemas.REFERENCE: the clean image as PNG (JPEG would shift FID); None where there is none."""
    if photo.clean is None:
        return None
    return {"image_id": photo.image_id, "image": encode_image(photo.clean, "png"), "defect": None}


def _read_mask(data: bytes | None, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8] | None, str]:
    """The mask (H, W) uint8, or None, and why."""
    if not data:
        return None, "missing"
    try:
        mask = decode_image(data)[..., 0]
    except ImageError:
        return None, "unreadable"
    return (mask, "good") if mask.shape == image.shape[:2] else (None, "wrong_size")


def _fit(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Shrink to `max_side` on the longest side, aspect kept; smaller images stay as they are."""
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    return resize_bicubic(image, max(1, round(width * scale)), max(1, round(height * scale)))
