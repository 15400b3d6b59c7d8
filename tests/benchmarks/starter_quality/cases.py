"""Uploads with one defect each, whose perfect correction is known."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.contracts.hashing import hash_number
from pipelines.images.decode import decode_image
from pipelines.images.encode import encode_image
from pipelines.synthesis.defects.angle import MAX_DEGREES, MIN_DEGREES, kept_inside, transform, turned
from pipelines.synthesis.defects.backgrounds import Backgrounds, background_of, shaded
from pipelines.synthesis.defects.foreground import over
from tests.benchmarks.starter_quality.marks import add_foreign_mark
from tests.benchmarks.starter_quality.samples import CLOTHING, Sample

BACKGROUND, FOUND = "background", "background, as found"
MARK_ON_PHOTO, MARK_ON_WHITE = "watermark on the photo", "watermark on white"
ANGLE = "angle"
CLEAN = ("clean, called non-white", "clean, called marked", "clean, called turned", "photo, called marked")
#: The detector's label of each task's uploads: the names of the starter's defects.
LABELS = {
    BACKGROUND: "non_white_background",
    FOUND: "non_white_background",
    MARK_ON_PHOTO: "watermark",
    MARK_ON_WHITE: "watermark",
    ANGLE: "wrong_angle",
    CLEAN[0]: "non_white_background",
    CLEAN[1]: "watermark",
    CLEAN[2]: "wrong_angle",
    CLEAN[3]: "watermark",
}
QUALITY = 95
#: Channels that differ by more levels belong to the mark.
MARK_LEVELS = 2
#: Share of product in the picture's border from which the product counts as cut off; it is then not turned.
CUT_OFF = 0.02
#: Maximum number of photos whose backgrounds objects are laid on.
BACKGROUNDS = 60


class Case(NamedTuple):
    """An upload with one defect.

    upload: encoded. target: uint8 (H,W,3), the perfect correction; None if it is unknown. region: bool (H,W), the
    product, or the area under the mark. degrees: by which the product was turned, counter-clockwise.
    """

    case_id: str
    task: str
    kind: str
    product_type: str
    upload: bytes
    target: NDArray[np.uint8] | None
    region: NDArray[np.bool_] | None
    degrees: float = 0.0

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The upload's pixels."""
        return decode_image(self.upload)


def make_cases(samples: Sequence[Sample], typefaces: Sequence[str], clean: int) -> Iterator[Case]:
    """Yield all cases of all samples, at most `clean` clean ones of each kind, drawn by the samples' ids alone."""
    photos = [sample for sample in samples if sample.kind == CLOTHING and sample.mask is not None]
    filled = (
        background_of(sample.photo, sample.mask)
        for sample in photos[: 2 * BACKGROUNDS]
        if sample.mask is not None
    )
    backgrounds = Backgrounds(
        tuple(background for background in filled if background is not None)[:BACKGROUNDS]
    )
    used = {CLOTHING: 0}
    for sample in samples:
        rng = np.random.default_rng(hash_number("starter quality", sample.image_id))
        if sample.mask is None or sample.white is None:
            task = BACKGROUND if sample.kind == CLOTHING else FOUND
            yield _case(sample, task, sample.photo, None, None)
            continue
        yield from _defective(sample, sample.mask, sample.white, backgrounds, typefaces, rng)
        used[sample.kind] = used.get(sample.kind, 0) + 1
        if used[sample.kind] <= clean:
            yield from _clean(sample, sample.mask, sample.white)


def _defective(
    sample: Sample,
    mask: NDArray[np.uint8],
    white: NDArray[np.uint8],
    backgrounds: Backgrounds,
    typefaces: Sequence[str],
    rng: np.random.Generator,
) -> Iterator[Case]:
    product = mask > 127
    photo = sample.photo
    if sample.kind != CLOTHING:
        background = backgrounds.draw(mask.shape[1], mask.shape[0], rng)
        photo = over(sample.photo, mask, shaded(background, mask, rng))
    yield _case(sample, BACKGROUND, photo, white, product)
    for task, under in ((MARK_ON_PHOTO, photo), (MARK_ON_WHITE, white)):
        marked = add_foreign_mark(under, typefaces, rng)
        covered = np.abs(marked.astype(int) - under).max(axis=2) > MARK_LEVELS
        yield _case(sample, task, marked, under, covered)
    if not _is_cut_off(product):
        degrees = float(rng.uniform(MIN_DEGREES, MAX_DEGREES)) * (1 if rng.random() < 0.5 else -1)
        yield _case(sample, ANGLE, turn(white, product, degrees), white, product, degrees)


def _clean(sample: Sample, mask: NDArray[np.uint8], white: NDArray[np.uint8]) -> Iterator[Case]:
    for task in CLEAN[:3]:
        yield _as_uploaded(_case(sample, task, white, white, mask > 127))
    if sample.kind == CLOTHING:
        yield _as_uploaded(_case(sample, CLEAN[3], sample.photo, sample.photo, mask > 127))


def turn(white: NDArray[np.uint8], product: NDArray[np.bool_], degrees: float) -> NDArray[np.uint8]:
    """Return a product on white, uint8 (H,W,3), turned counter-clockwise about the picture's middle.

    It is made smaller if it would leave the picture. product: bool (H,W).
    """
    height, width = product.shape
    contours, _ = cv2.findContours(product.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline = np.concatenate([contour[:, 0] for contour in contours]).astype(np.float64)
    moved = turned(degrees)
    return transform(white, kept_inside(outline, width, height, moved) @ moved)


def _is_cut_off(product: NDArray[np.bool_]) -> bool:
    sides = (product[0], product[-1], product[:, 0], product[:, -1])
    return not product.any() or float(np.concatenate(sides).mean()) > CUT_OFF


def _case(
    sample: Sample,
    task: str,
    upload: NDArray[np.uint8],
    target: NDArray[np.uint8] | None,
    region: NDArray[np.bool_] | None,
    degrees: float = 0.0,
) -> Case:
    case_id = f"{task.replace(',', '').replace(' ', '-')}.{sample.image_id}"
    encoded = encode_image(upload, "jpeg", QUALITY)
    return Case(case_id, task, sample.kind, sample.product_type, encoded, target, region, degrees)


def _as_uploaded(case: Case) -> Case:
    """Return the case with the upload itself, including JPEG's traces, as the perfect correction."""
    return case._replace(target=case.pixels)
