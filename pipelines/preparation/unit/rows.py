"""Makes training rows from one record: a photo, a clean product image, or a given pair.

- A *photo* with a trusted mask gives the clean-up pair (x is the photo, y the product on white), and a pair per other
  defect that has a synthesis (y is the same, x is made from it). Without such a mask it gives only x of the clean-up
  (pairing 'unpaired'): it still shows what uploads look like, and no bad y is taken for a real clean image.
- A clean *product image* gives a pair per defect that has a synthesis.
- A given pair, or an unpaired image, is kept as it is.

All images are scaled to one size and encoded alike, so that the images of a pair differ by the defect and not by the
files' history. Defects are drawn after resizing. The pipeline is that of Li et al. (2022), whose clean-up uses a
saliency network.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigurationError
from pipelines.contracts.hashing import hash_number
from pipelines.contracts.names import check_names
from pipelines.contracts.splits import TRAIN, split_of
from pipelines.images.decode import ImageError
from pipelines.images.decode_apart import decode_image_apart
from pipelines.images.encode import encode_image, encode_mask
from pipelines.images.resize import shrink_bicubic
from pipelines.preparation.entries import Entry, Record
from pipelines.preparation.unit.mask_quality import measure_mask
from pipelines.synthesis.defects import Synthesis, composite_on_white, synthesis
from pipelines.synthesis.defects.registry import CLEAN_UP

#: JPEG at this quality (4:4:4) is within about one level of 255 on average; PNG is 3 to 5 times larger.
JPEG_QUALITY = 95

Origin = Literal["given", "saliency"]


@dataclass(frozen=True)
class RowSettings:
    """The settings that decide a record's rows."""

    groups: Mapping[str, str]  # defect -> its group in the label map; no other defects get rows
    syntheses: Mapping[
        str, str
    ]  # defect -> name of its synthesis; defects without one only come in given pairs
    seed: int = 0  # another seed draws other defects; the split does not depend on it
    max_side: int = 384  # longest side of stored images; raise it to train above 256
    # Fixed pairs per image and defect in the split 'train'; 0 lets training make new ones in every epoch. Set 1 or more
    # if other programs read the shards.
    draws: int = 0
    # Masks below this make no target. Raise it if composites look cut, lower it if photos are few.
    min_quality: float = 0.6

    def __post_init__(self) -> None:
        """Raise ConfigurationError for a value out of range or an unknown name."""
        if not 32 <= self.max_side <= 4096:
            raise ConfigurationError(f"--max-side must be from 32 to 4096 pixels, got {self.max_side}")
        if self.draws < 0:
            raise ConfigurationError(f"--draws must be 0 or more, got {self.draws}")
        if not 0 <= self.min_quality <= 1:
            raise ConfigurationError(f"--min-quality must be from 0 to 1, got {self.min_quality}")
        for defect, name in self.syntheses.items():
            check_names(f"--synthesis {defect}={name}", "defect", [defect], self.groups)
            synthesis(name)

    @property
    def clean_up(self) -> tuple[str, ...]:
        """The defects that a photo shows as it is."""
        return tuple(defect for defect in self.made if self.syntheses[defect] == CLEAN_UP)

    @property
    def made(self) -> tuple[str, ...]:
        """The defects that have a synthesis, in the order of the label map."""
        return tuple(defect for defect in self.groups if defect in self.syntheses)


@dataclass(frozen=True)
class JudgedMask:
    """A photo's mask, and how far it can be trusted."""

    alpha: NDArray[np.uint8]  # (H, W) at the stored size, 255 is product
    composite: NDArray[np.uint8]  # (H, W, 3), the product on white
    quality: float  # in [0, 1], see `pipelines.preparation.unit.mask_quality`
    lowest: str  # the measure that decided `quality`
    accepted: bool
    origin: Origin


@dataclass(frozen=True)
class Sample:
    """A decoded record at its stored size. source, target: (H, W, 3) or None."""

    entry: Entry
    source: NDArray[np.uint8] | None
    target: NDArray[np.uint8] | None
    mask: JudgedMask | None = None
    mask_missing: str | None = None  # why a photo has no mask: 'missing' | 'unreadable' | 'wrong_size'
    mask_error: str | None = None  # the code, if 'unreadable'

    @property
    def is_photo(self) -> bool:
        """True if there is a photo to clean up."""
        return self.entry.defect is None and self.source is not None

    @property
    def clean(self) -> NDArray[np.uint8] | None:
        """The image y (H, W, 3): given, or made with a trusted mask; None if there is none."""
        if self.is_photo:
            return self.mask.composite if self.mask is not None and self.mask.accepted else None
        return self.target


def read_sample(record: Record, settings: RowSettings) -> Sample:
    """Return a decoded record; the mask that comes with it is judged.

    Raises ImageError if an image cannot be read. A mask that cannot be read counts as missing.
    """
    if record.error is not None:
        raise ImageError(*record.error)
    entry = record.entry
    target = (
        None
        if record.target is None
        else shrink_bicubic(decode_image_apart(record.target), settings.max_side)
    )
    if record.source is None:
        return Sample(entry, None, target)
    full = decode_image_apart(record.source)
    source = shrink_bicubic(full, settings.max_side)
    if entry.defect is not None:
        return Sample(entry, source, target)
    mask, missing, error = _read_mask(record, full)
    sample = Sample(entry, source, None, mask_missing=missing, mask_error=error)
    return sample if mask is None else _judged(sample, full, mask, "given", settings)


def with_saliency(sample: Sample, alpha: NDArray[np.float32], settings: RowSettings) -> Sample:
    """Return the photo with a saliency network's mask, alpha (H, W) in [0, 1] at the stored size, judged as any."""
    if sample.source is None:
        raise ValueError("only a photo has a mask")
    mask = np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8)
    return _judged(sample, sample.source, mask, "saliency", settings)


def training_rows(sample: Sample, settings: RowSettings) -> Iterator[dict[str, Any]]:
    """Yield rows of schemas.SHARD for one sample, in the order of the label map.

    All carry the entry's own `image_id`: (image_id, defect) is the key, and the split depends on the image only.
    """
    split = split_of_entry(sample.entry)
    made_later = (
        split == TRAIN and settings.draws == 0 and sample.entry.defect is None and sample.clean is not None
    )
    target = _encoded(sample.clean)
    for defect in shown_defects(sample, settings):
        if made_later:
            yield _row(sample, defect, settings, target, _material(sample, defect, settings))
            continue
        for draw in range(_fixed_draws(sample, defect, settings) if split == TRAIN else 1):
            source = source_image(sample, defect, settings, draw)
            yield _row(sample, defect, settings, target, {"source": _encoded(source)})


def _row(
    sample: Sample,
    defect: str,
    settings: RowSettings,
    target: bytes | None,
    images: Mapping[str, bytes | None],
) -> dict[str, Any]:
    made = images.get("source") is not None or "mask" in images
    return {
        "image_id": sample.entry.image_id,
        "source": None,
        "target": target,
        "mask": None,
        "photo": None,
        **images,
        "pairing": "paired" if made and target is not None else "unpaired",
        "group": settings.groups[defect],
        "defect": defect,
        "product_type": sample.entry.product_type,
        "split": split_of_entry(sample.entry),
    }


def _material(sample: Sample, defect: str, settings: RowSettings) -> dict[str, bytes | None]:
    """Return what training makes pairs from, besides the target: the photo is the source if it shows the defect."""
    photo = _encoded(sample.source) if sample.is_photo else None
    mask = None if sample.mask is None else encode_mask(sample.mask.alpha)
    shows = defect in settings.clean_up
    return {"source": photo if shows else None, "mask": mask, "photo": None if shows else photo}


def _fixed_draws(sample: Sample, defect: str, settings: RowSettings) -> int:
    """Return the number of fixed pairs: one if the defect is not drawn, because it was given or the photo shows it."""
    drawn = sample.entry.defect is None and not (sample.is_photo and defect in settings.clean_up)
    return max(1, settings.draws) if drawn else 1


def _encoded(image: NDArray[np.uint8] | None) -> bytes | None:
    return None if image is None else encode_image(image, "jpeg", quality=JPEG_QUALITY)


def split_of_entry(entry: Entry) -> str:
    """Return 'train' or 'test': as the reader's dataset fixes it, else by the hash of the id."""
    return entry.split or split_of(entry.image_id)


def shown_defects(sample: Sample, settings: RowSettings) -> tuple[str, ...]:
    """Return the defects that this sample can show; of a photo without a clean image only those of the clean-up."""
    if sample.entry.defect is not None:
        return (sample.entry.defect,)
    return settings.made if sample.clean is not None else settings.clean_up


def source_image(
    sample: Sample, defect: str, settings: RowSettings, draw: int = 0
) -> NDArray[np.uint8] | None:
    """Return the defective image x (H, W, 3), or None if there is none. It depends on sample, defect, seed and draw.

    defect: one of `shown_defects`.
    """
    if sample.entry.defect is not None or (sample.is_photo and defect in settings.clean_up):
        return sample.source
    if sample.clean is None:
        raise ValueError(f"{defect} cannot be made without a clean image")
    again = (draw,) if draw else ()
    rng = np.random.default_rng(hash_number(settings.seed, sample.entry.image_id, defect, *again))
    return _synthesis(settings.syntheses[defect])(sample.clean, rng)


def catalog_row(sample: Sample, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return a row of schemas.CATALOG with the label of its defect, from one of the sample's training rows.

    rows: from `training_rows`. Each of them is equally likely. Returns None if no row has a source. A given image may
    come once with each of several defects, while a catalog's ids are unique, so its defect is added to its id.
    """
    entry = sample.entry
    possible = [row for row in rows if row["source"] is not None]
    if not possible:
        return None
    row = possible[hash_number("catalog", entry.image_id) % len(possible)]
    return {
        "image_id": entry.image_id if entry.defect is None else f"{entry.image_id}#{entry.defect}",
        "image": row["source"],
        "uri": None,
        "labels": [{"label": row["defect"], "score": 1.0}],
        "product_type": row["product_type"],
    }


def reference_row(sample: Sample) -> dict[str, Any] | None:
    """Return a row of schemas.REFERENCE with the clean image as PNG (JPEG would shift FID), or None without one.

    A given target is the reference of its own defect only; a clean product is that of all.
    """
    if sample.clean is None:
        return None
    image = encode_image(sample.clean, "png")
    return {"image_id": sample.entry.image_id, "image": image, "defect": sample.entry.defect}


@cache
def _synthesis(name: str) -> Synthesis:
    """Return a synthesis. Cached, since each look-up reads the metadata of all distributions, some 20 ms."""
    return synthesis(name)


def _judged(
    sample: Sample, image: NDArray[np.uint8], mask: NDArray[np.uint8], origin: Origin, settings: RowSettings
) -> Sample:
    """Return `sample` with `mask` (H, W), which belongs to `image` (H, W, 3), the photo at any size."""
    if sample.source is None:
        raise ValueError("only a photo has a mask")
    scores = measure_mask(image, mask).scores()
    lowest = min(scores, key=lambda name: scores[name])
    quality = scores[lowest]
    alpha = shrink_bicubic(np.repeat(mask[..., None], 3, axis=2), settings.max_side)[..., 0]
    composite = composite_on_white(sample.source, alpha.astype(np.float32) / 255)
    judged = JudgedMask(alpha, composite, quality, lowest, quality >= settings.min_quality, origin)
    return replace(sample, mask=judged)


def _read_mask(
    record: Record, image: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8] | None, str | None, str | None]:
    """Return the mask (H, W) uint8, or None with the reason and, if it is 'unreadable', the code."""
    if record.mask_error is not None:
        return None, "unreadable", record.mask_error
    if not record.mask:
        return None, "missing", None
    try:
        mask = decode_image_apart(record.mask)[..., 0]
    except ImageError as error:
        return None, "unreadable", error.code
    return (mask, None, None) if mask.shape == image.shape[:2] else (None, "wrong_size", None)
