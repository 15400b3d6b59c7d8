"""Turns a corrected image into the bytes to publish, or rejects it with the gate that keeps the original.

The background is snapped to white, and the image is encoded. Gates and the marketplace's rules judge the decoded file.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipelines.contracts.profiles.check import profile_issues
from pipelines.contracts.profiles.profile import Profile
from pipelines.correction.deliver.gate_detector import DetectorGate, Remaining
from pipelines.correction.deliver.gates import (
    CHANGED,
    EMPTY_PRODUCT,
    HOLES,
    LOST,
    NEARLY_CONSTANT,
    NOT_WHITE,
    OFF,
    WEAK_OUTLINE,
    GateConfig,
)
from pipelines.correction.deliver.product import SIDE, Product, compared, find_product, product_change
from pipelines.correction.deliver.product_loss import ProductLoss, measure_product_loss
from pipelines.correction.deliver.white import WHITE, darkest_channel, measure_white, snap_white
from pipelines.images.encode import decode_encoded, encode_image
from pipelines.images.metadata import Metadata
from pipelines.images.resize import shrink_bicubic
from pipelines.inference.edits.apply import EditedImage

#: Steps in which quality goes down to meet a profile's bytes, and the lowest quality.
QUALITY_STEP, LOWEST_QUALITY = 6, 50
#: Quality of the second try, if the first left ripples in a white background. PNG is the third.
FINE_QUALITY = 98
#: Longest side of the image that is checked for being empty or of one colour.
_LOOK_SIDE = 256
#: Pixels, at `product.SIDE`, by which the product's region grows before the border is measured: the region is too small
#: at its edge, and JPEG's ripples reach beyond it.
_MARGIN = 4
#: Share of the border's white pixels that an encoder may make darker than white.
_RIPPLES = 0.005


@dataclass(frozen=True)
class DeliverySettings:
    """Settings of encoding and judging; small, because they travel with every task. None: no gates, no profile."""

    format: str = "jpeg"
    quality: int = 92
    ai_tag: bool = False  # mark corrected images as changed by a model
    gates: GateConfig | None = None
    detector: DetectorGate | None = None
    profile: Profile | None = None

    def decides(self) -> dict[str, Any]:
        """Return the settings that decide a row's bytes, status or issues, as JSON, for the configuration's hash."""
        return {
            "format": self.format,
            "quality": None if self.format == "png" else self.quality,
            "ai_tag": self.ai_tag,
            "gates": None if self.gates is None else asdict(self.gates),
            "gate_detector": None if self.detector is None else self.detector.version,
            "profile": None if self.profile is None else self.profile.decides(),
        }

    def describe(self) -> dict[str, Any]:
        """Return the resolved settings, for people."""
        return {
            "format": self.format,
            "quality": self.quality,
            "ai_tag": self.ai_tag,
            "gates": OFF if self.gates is None else asdict(self.gates),
            "gate_detector": None if self.detector is None else self.detector.uri,
            "profile": None if self.profile is None else asdict(self.profile),
        }

    @property
    def background_defects(self) -> tuple[str, ...]:
        """Defects whose correction paints the background. Soft edges lose the old background's colour (see
        `inference.edits.edges`), and near-white background becomes white, whatever the profile asks for.
        """
        return self.gates.white_background if self.gates is not None else ()


@dataclass(frozen=True)
class Delivered:
    """A correction to publish: `encoded` bytes of `format`, their decoded `image` uint8 (H,W,3), and the profile's
    rules that it fails (None without a profile).
    """

    encoded: bytes
    format: str
    image: NDArray[np.uint8]
    issues: list[str] | None


def deliver(
    before: NDArray[np.uint8],
    edited: EditedImage,
    row: Mapping[str, Any],
    settings: DeliverySettings,
    remaining: Remaining | None = None,
    metadata: Metadata | None = None,
) -> Delivered:
    """Encode and judge one correction. Raises gates.Rejection if a gate keeps the original.

    before: the upload, uint8 (H,W,3); edited: its correction. row: of `rows.EDITED`; `defects`, `edits` and
    `product_type` are used. remaining: the loaded gate detector. metadata: of the upload, for the file to keep.
    """
    gates, after = settings.gates, edited.image
    white = bool(set(row["defects"]) & set(settings.background_defects))
    wanted = white or (settings.profile is not None and settings.profile.white_background)
    background = None
    if wanted:
        # Another defect's matte says nothing about the background.
        paints_background = bool(row["defects"]) and row["defects"][-1] in settings.background_defects
        after, background = snap_white(after, edited.matte if paints_background else None)
    if gates is not None:
        _judge_pixels(after, gates)
    metadata = replace(metadata or Metadata(), ai_edited=settings.ai_tag)
    encoded, format, image = _encode(after, background, metadata, settings)
    product = None
    if gates is not None:
        if gates.needs_product(white):
            before = shrink_bicubic(before, SIDE, quickly=True)  # once for all that look at it there
            product = find_product(before)
        _judge_file(before, image, row, white, product, gates)
        if remaining is not None:
            gated = [defect for defect in row["defects"] if defect in (gates.defect_remains or ())]
            for defect, score in remaining.scores(image, gated, row["product_type"]).items():
                gates.judge_remaining(defect, score)
    issues = None
    if settings.profile is not None:
        not_white = measure_white(image, _at_size(product, image.shape)).worst
        issues = profile_issues(settings.profile, image, format, len(encoded), not_white)
    return Delivered(encoded, format, image, issues)


def _judge_pixels(after: NDArray[np.uint8], gates: GateConfig) -> None:
    small = shrink_bicubic(after, _LOOK_SIDE, quickly=True)
    gates.judge(NEARLY_CONSTANT, float(small.std()), "the standard deviation of the corrected image's values")
    share = float((darkest_channel(small) < WHITE).mean())
    gates.judge(EMPTY_PRODUCT, share, "the share of the corrected image that is not white")


def _judge_file(
    before: NDArray[np.uint8],
    image: NDArray[np.uint8],
    row: Mapping[str, Any],
    white: bool,
    product: Product | None,
    gates: GateConfig,
) -> None:
    """Raise Rejection if a gate rejects the encoded file. white: the background was to be corrected."""
    pair = None if product is None else compared(before, image, row["edits"])
    loss = None
    if white and pair is not None and product is not None and gates.needs_losses:
        loss = measure_product_loss(*pair, product)
        _judge_loss(loss, gates)
    if white:
        share = measure_white(image, _at_size(product, image.shape)).worst
        gates.judge(
            NOT_WHITE, share, f"the share of a corner or the border below {WHITE} in the encoded file"
        )
    if loss is not None:
        what = "the share of the kept part's outline at which the upload shows no edge"
        gates.judge(WEAK_OUTLINE, loss.weak_outline, what)
    if pair is not None and product is not None:
        change = product_change(*pair, product, only_kept=white)
        gates.judge(CHANGED, change, "the product's mean colour difference (CIE76) from the upload")


def _judge_loss(loss: ProductLoss, gates: GateConfig) -> None:
    already = ", which was on white already" if loss.on_white else ""
    share = f"the share of the product (classical saliency of the upload{already}) that is white now"
    gates.judge(LOST, loss.lost, share, loss.allowance)
    gates.judge(HOLES, loss.trusted_holes, f"{share}, in holes of the kept part,")


def _encode(
    image: NDArray[np.uint8],
    background: NDArray[np.bool_] | None,
    metadata: Metadata,
    settings: DeliverySettings,
) -> tuple[bytes, str, NDArray[np.uint8]]:
    """Return bytes, format and decoded pixels. If the encoder leaves ripples in the white of `background` at the
    border, try a finer quality, then PNG, as far as the profile's formats and bytes allow.
    """
    profile = settings.profile
    limit = None if profile is None else profile.max_bytes
    encoded = _fitting(image, settings.format, settings.quality, metadata, limit)
    decoded = decode_encoded(encoded)
    if background is None or _stays_white(decoded, background):
        return encoded, settings.format, decoded
    for format in (settings.format, "png"):
        if profile is not None and format not in profile.formats:
            continue
        finer = encode_image(image, format, max(settings.quality, FINE_QUALITY), metadata)
        if limit is None or len(finer) <= limit:
            pixels = decode_encoded(finer)
            if _stays_white(pixels, background):
                return finer, format, pixels
    return encoded, settings.format, decoded


def _fitting(
    image: NDArray[np.uint8], format: str, quality: int, metadata: Metadata, limit: int | None
) -> bytes:
    """Encode `image` at the first quality, from `quality` down, that gives at most `limit` bytes; at LOWEST_QUALITY, or
    as PNG, with any number of bytes.
    """
    while True:
        encoded = encode_image(image, format, quality, metadata)
        if limit is None or len(encoded) <= limit or format == "png" or quality <= LOWEST_QUALITY:
            return encoded
        quality = max(LOWEST_QUALITY, quality - QUALITY_STEP)


def _stays_white(decoded: NDArray[np.uint8], background: NDArray[np.bool_]) -> bool:
    """Return whether background that was white before encoding is still white, at the border and in the corners."""
    return measure_white(decoded, product=~background).worst <= _RIPPLES


def _at_size(product: Product | None, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return the product's region, a little larger, at the image's size, bool (H,W)."""
    if product is None:
        return None
    grown = Image.fromarray(ndimage.binary_dilation(product.core, iterations=_MARGIN))
    return np.array(grown.resize((shape[1], shape[0]), Image.Resampling.NEAREST))
