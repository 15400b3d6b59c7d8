"""Training pairs, made again for every sample: from a clean product, an image with a defect and its correction.

Everything depends only on the arguments and the generator, so that a seed, an epoch and an image's id give the same
pair in any process. Both sides of a pair have the same view and the same light; they differ only by the defect. A few
sources have no defect: labels are sometimes wrong, and a clean image must then stay unchanged.

Pairs are made in the picture's own shape at the size of the network's input, and then put onto the network's square as
`pipelines.images.fit` describes.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.images.fit import fitted_size, inner_slices, squared
from pipelines.images.resize import resize_bicubic, shrink_bicubic
from pipelines.synthesis.defects.angle import (
    CARELESS_DEGREES,
    FARTHEST,
    MAX_DEGREES,
    MAX_SLANT,
    MIN_DEGREES,
    MIN_SLANT,
    NEAREST,
    kept_inside,
    slanted,
    turned,
)
from pipelines.synthesis.defects.background import product_alpha
from pipelines.synthesis.defects.backgrounds import Backgrounds, shaded
from pipelines.synthesis.defects.colours import Tint
from pipelines.synthesis.defects.foreground import (
    foreground,
    most_apart,
    on_white,
    over,
    soft_edges,
    with_holes,
    without_specks,
)
from pipelines.synthesis.defects.marking import add_mark
from pipelines.synthesis.defects.prints import add_print
from pipelines.synthesis.defects.registry import CLEAN_UP, Synthesis, synthesis
from pipelines.synthesis.defects.views import (
    Affine,
    Frame,
    about,
    brought_to,
    moved,
    reduced,
    sampling_theta,
    seen,
)

# Worker processes share the cores already, and pictures of this size are not faster with threads.
cv2.setNumThreads(1)

#: Share of the sources that have no defect.
CLEAN = 0.05
#: Of backgrounds with a photo: share of sources that are the original photo.
PHOTO_ITSELF = 0.6
#: Of marks: shares on products on white, and on original photos; the others are on products on other backgrounds.
MARKS_ON_WHITE, MARKS_ON_PHOTOS = 0.4, 0.35
#: Of angles: share of those that are only a turn.
TURNED_ONLY = 0.8
#: Share of the products that get a print of their own, which is not a mark.
PRINTED = 0.12
#: Share of closer crops.
CLOSER = 0.3
#: Share of product in a side of the picture from which the product counts as cut off there.
CUT_OFF = 0.03
#: Share of a picture from which its background counts as visible.
LEAST_BACKGROUND = 0.01
#: Opacities up to this level are traces without meaning.
FAINT = 12
#: A difference of this many levels of 255 counts in full, for defects that do not report their change.
SEEN_LEVELS = 16

Image = NDArray[np.uint8]
Plane = NDArray[np.uint8]


class Material(NamedTuple):
    """The images that pairs are made from.

    target: uint8 (h, w, 3), a clean product on white. mask: uint8 (h, w), 255 is product; None: it is estimated.
    photo: uint8 (h, w, 3), the photo that the target was cut from, or None.
    """

    target: Image
    mask: Plane | None = None
    photo: Image | None = None


class MadePair(NamedTuple):
    """A defective image and its correction.

    source, target: uint8 (S, S, 3). changed: uint8 (S, S), how much the synthesis changed a pixel, 0 where the two are
    equal. theta: float32 (2, 3), for torch's affine_grid with align_corners=False: `grid_sample(source, grid)` is the
    target. It is None if they do not differ by an affine map.
    """

    source: Image
    target: Image
    changed: Plane
    theta: NDArray[np.float32] | None


class Pair(NamedTuple):
    """A pair in the picture's own shape.

    source, target: uint8 (H, W, 3). changed: uint8 (H, W), as in `MadePair`. on_white: the target shows no background.
    turn: the frame, and the map (3, 3) in its unit from target to source; None if they do not differ by an affine map.
    """

    source: Image
    target: Image
    changed: Plane
    on_white: bool
    turn: tuple[Frame, Affine] | None = None

    @property
    def has_defect(self) -> bool:
        """True if the two differ."""
        return bool(self.changed.any())

    def squared(self, size: int) -> MadePair:
        """Return the pair on the network's square of `size` pixels."""
        height, width = self.changed.shape
        rows, columns = inner_slices(height, width, size)
        theta = None
        if self.turn is not None:
            to_square = brought_to((columns.start, rows.start)) @ self.turn[0].to_pixels()
            theta = sampling_theta(to_square @ self.turn[1] @ np.linalg.inv(to_square), size)
        where = self.changed
        if where.shape != (size, size):
            where = np.zeros((size, size), np.uint8)
            where[rows, columns] = self.changed
        return MadePair(squared(self.source, size), squared(self.target, size), where, theta)


class _View(NamedTuple):
    """A product as a frame shows it.

    picture: uint8 (H, W, 3), a photo; or the product's own colours where it is not transparent, with anything
    elsewhere. alpha: uint8 (H, W), 255 is product. frame: its `pixels` are W and H.
    """

    picture: Image
    alpha: Plane
    frame: Frame


def draw_pair(
    defect_synthesis: str,
    material: Material,
    backgrounds: Backgrounds,
    size: int,
    fit: str,
    rng: np.random.Generator,
) -> Pair:
    """Return a pair with the defect of that name (see `registry`), as large as it fits onto squares of `size` pixels.

    fit: 'stretch' or 'letterbox', as in `pipelines.images.fit`. Raises ValueError if the material's parts differ in
    size, ConfigurationError for an unknown synthesis.
    """
    height, width = material.target.shape[:2]
    for part in (material.mask, material.photo):
        if part is not None and part.shape[:2] != (height, width):
            raise ValueError(f"the target is {(height, width)}, its mask or photo {part.shape[:2]}")
    maker = _MAKERS.get(defect_synthesis)
    if maker is None:
        return _made_by(_synthesis(defect_synthesis), material, size, fit, rng)
    return maker(material, backgrounds, size, fit, rng)


def _background_pair(
    material: Material, backgrounds: Backgrounds, size: int, fit: str, rng: np.random.Generator
) -> Pair:
    kind = float(rng.random())
    if material.photo is not None and kind >= CLEAN and rng.random() < PHOTO_ITSELF:
        view = _photo(material.photo, _mask(material), size, fit, rng)
        target = on_white(foreground(view.picture, view.alpha), view.alpha)
        return Pair(view.picture, target, cv2.bitwise_not(view.alpha), on_white=True)
    view = _product(material, size, fit, rng)
    target = on_white(view.picture, view.alpha)
    if kind < CLEAN:
        return Pair(target, target, np.zeros_like(view.alpha), on_white=True)
    return Pair(_laid(view, backgrounds, rng), target, cv2.bitwise_not(view.alpha), on_white=True)


def _watermark_pair(
    material: Material, backgrounds: Backgrounds, size: int, fit: str, rng: np.random.Generator
) -> Pair:
    kind = float(rng.random())
    is_white = False
    if material.photo is not None and kind < MARKS_ON_PHOTOS:
        view = _photo(material.photo, _mask(material), size, fit, rng)
        clean = view.picture
    else:
        view = _product(material, size, fit, rng)
        is_white = kind >= 1 - MARKS_ON_WHITE
        clean = on_white(view.picture, view.alpha) if is_white else _laid(view, backgrounds, rng)
    if rng.random() < CLEAN:
        return Pair(clean, clean, np.zeros_like(view.alpha), is_white or not _shows_background(view.alpha))
    marked, changed = add_mark(clean, view.alpha, view.frame.unit(), rng)
    return Pair(marked, clean, changed, is_white or not _shows_background(view.alpha))


def _angle_pair(
    material: Material, backgrounds: Backgrounds, size: int, fit: str, rng: np.random.Generator
) -> Pair:
    mask = _mask(material)
    frame, view = _product_view(mask, size, fit, rng, upright=True)
    white = cv2.inRange(mask, 0, FAINT)  # 255 outside the product, where a stored target may ring
    picture = Tint.draw(rng)(cv2.max(material.target, cv2.merge([white, white, white])))
    picture, shrunk = reduced(picture, frame.to_pixels() @ view)
    target = _on_white(picture, shrunk, frame)
    if rng.random() < CLEAN:
        return Pair(target, target, np.zeros(target.shape[:2], np.uint8), True, (frame, np.eye(3)))
    turn, is_affine = _wrong_turn(max(frame.width, frame.height), rng)
    turn = kept_inside(_outline(mask, view), frame.width, frame.height, turn) @ turn
    turn = about((frame.width / 2, frame.height / 2), turn)
    to_pixels = frame.to_pixels()
    source = _on_white(picture, to_pixels @ turn @ np.linalg.inv(to_pixels) @ shrunk, frame)
    return Pair(source, target, _difference(source, target), True, (frame, turn) if is_affine else None)


def _wrong_turn(longer: float, rng: np.random.Generator) -> tuple[Affine, bool]:
    """Return a turn by MIN_DEGREES to MAX_DEGREES, or a slant as in `angle.wrong_angle`, and whether it is affine."""
    direction = 1.0 if rng.random() < 0.5 else -1.0
    if rng.random() < TURNED_ONLY:
        return turned(direction * float(rng.uniform(MIN_DEGREES, MAX_DEGREES))), True
    upwards = 90.0 * (float(rng.integers(4)) if rng.random() < 1 / 3 else 2.0 * float(rng.integers(2)))
    slant = slanted(
        float(rng.uniform(MIN_SLANT, MAX_SLANT)),
        upwards + float(rng.normal(0.0, 10.0)),
        longer * float(rng.uniform(NEAREST, FARTHEST)),
    )
    return slant @ turned(direction * float(rng.uniform(*CARELESS_DEGREES))), False


def _made_by(maker: Synthesis, material: Material, size: int, fit: str, rng: np.random.Generator) -> Pair:
    """Return a pair made by a synthesis that takes a clean product on white and returns it with the defect."""
    clean = shrink_bicubic(np.ascontiguousarray(material.target), size)
    tinted = Tint.draw(rng)(clean)
    made = tinted if rng.random() < CLEAN else maker(tinted, rng)
    wide, high = fitted_size(clean.shape[1], clean.shape[0], size, fit)
    source, target = (resize_bicubic(image, wide, high) for image in (made, tinted))
    return Pair(source, target, _difference(source, target), on_white=True)


@cache
def _synthesis(name: str) -> Synthesis:
    """Return a synthesis. Cached, since each look-up reads the metadata of all distributions, some 20 ms."""
    return synthesis(name)


def _mask(material: Material) -> Plane:
    if material.mask is not None:
        return material.mask
    return np.rint(product_alpha(material.target) * 255).astype(np.uint8)


def _photo(photo: Image, mask: Plane, size: int, fit: str, rng: np.random.Generator) -> _View:
    """Return an original photo in a slightly different view and light."""
    height, width = mask.shape
    frame = Frame.of(width, height, size, fit)
    mirror = bool(rng.random() < 0.5)
    degrees = 0.0 if rng.random() < 0.3 else float(rng.uniform(-10, 10))
    scale, point = float(rng.uniform(1.0, 1.3)), (width / 2, height / 2)
    if rng.random() < CLOSER:
        scale, point = float(rng.uniform(1.3, 2.0)), _some_point(mask, rng)
    to = []
    for length, at in ((width, width - point[0] if mirror else point[0]), (height, point[1])):
        # Outside its border the photo is shown mirrored, as little as the turn allows.
        wanted = length * (0.5 + float(rng.uniform(-0.1, 0.1)))
        to.append(float(np.clip(wanted, length - scale * (length - at), scale * at)))
    view = frame.to_pixels() @ moved(point, (to[0], to[1]), degrees, scale, mirror)
    picture = Tint.draw(rng)(seen(photo, view, frame.pixels))
    return _printed(_View(picture, _clear(seen(mask, view, frame.pixels)), frame), rng)


def _product(material: Material, size: int, fit: str, rng: np.random.Generator) -> _View:
    """Return the product alone, at a random position in a frame."""
    mask = _mask(material)
    if material.photo is None:
        mask = with_holes(material.target, without_specks(soft_edges(material.target, mask)))
    frame, view = _product_view(mask, size, fit, rng)
    view = frame.to_pixels() @ view
    # What the picture's border cuts off is at the frame's border; little of it is ever continued.
    border = cv2.BORDER_REPLICATE if _is_cut_off(mask) else cv2.BORDER_CONSTANT
    # A photo's soft edges are as photographed, and not yet mixed with white.
    picture = material.target if material.photo is None else material.photo
    picture = seen(picture, view, frame.pixels, cv2.BORDER_REPLICATE)
    alpha = _clear(seen(mask, view, frame.pixels, border))
    colours = foreground(picture, alpha, 255 if material.photo is None else None)
    return _printed(_View(Tint.draw(rng)(colours), alpha, frame), rng)


def _printed(view: _View, rng: np.random.Generator) -> _View:
    """Print on some products."""
    if rng.random() >= PRINTED:
        return view
    return view._replace(picture=add_print(view.picture, view.alpha, view.frame.unit(), rng))


def _shows_background(alpha: Plane) -> bool:
    """Return whether the product leaves some of the picture free; a close-up shows no background."""
    return float((alpha < 128).mean()) >= LEAST_BACKGROUND


def _clear(alpha: Plane) -> Plane:
    """Remove the faint traces that networks' masks have far from any product, so that a target's white is white."""
    return cv2.LUT(alpha, _CLEARED)


def _laid(view: _View, backgrounds: Backgrounds, rng: np.random.Generator) -> Image:
    """Return the product on a background with its shadow."""
    height, width = view.alpha.shape
    return over(view.picture, view.alpha, shaded(backgrounds.draw(width, height, rng), view.alpha, rng))


def _product_view(
    mask: Plane, size: int, fit: str, rng: np.random.Generator, upright: bool = False
) -> tuple[Frame, Affine]:
    """Return a frame, and the map (3, 3) from the picture's pixels to the frame's unit.

    A product that the picture's border cuts off stays cut off at that border.
    """
    height, width = mask.shape
    mirror = bool(rng.random() < 0.5)
    if _is_cut_off(mask):
        frame = Frame.of(width, height, size, fit)
        scale = float(rng.uniform(1.0, 1.08) if upright else rng.uniform(1.07, 1.4))
        room = max(0.0, (scale - 1.06) / 2)
        to = (
            width * (0.5 + room * float(rng.uniform(-1, 1))),
            height * (0.5 + room * float(rng.uniform(-1, 1))),
        )
        degrees = 0.0 if upright else float(rng.uniform(-2.5, 2.5))
        return frame, moved((width / 2, height / 2), to, degrees, scale, mirror)
    reshape = math.exp(float(rng.uniform(-0.15, 0.15))) if rng.random() < 0.3 else 1.0
    frame = Frame.of(width * reshape, height / reshape, size, fit)
    x, y, wide, high = cv2.boundingRect((mask > 127).view(np.uint8))
    if wide == 0:
        x, y, wide, high = 0, 0, width, height
    share = float(rng.uniform(0.5, 0.95))
    if not upright and rng.random() < CLOSER:
        share = float(rng.uniform(1.0, 1.7))
    scale = share * min(frame.width / wide, frame.height / high)
    to = _somewhere(frame.width, scale * wide, rng), _somewhere(frame.height, scale * high, rng)
    degrees = 0.0 if upright else float(np.clip(rng.normal(0.0, 4.0), -12, 12))
    return frame, moved((x + wide / 2, y + high / 2), to, degrees, scale, mirror)


def _somewhere(frame: float, product: float, rng: np.random.Generator) -> float:
    """Return where the middle of a product of that length is on a side: inside if it fits, and near the middle."""
    room = abs(frame - product) / 2
    return frame / 2 + room * float(rng.uniform(-0.5, 0.5) + rng.uniform(-0.45, 0.45))


def _some_point(mask: Plane, rng: np.random.Generator) -> tuple[float, float]:
    positions = np.flatnonzero(mask[::4, ::4] > 127)
    if positions.size == 0:
        return mask.shape[1] / 2, mask.shape[0] / 2
    row, column = divmod(int(positions[rng.integers(positions.size)]), (mask.shape[1] + 3) // 4)
    return 4.0 * column + 2, 4.0 * row + 2


def _is_cut_off(mask: Plane) -> bool:
    return any(float((side > 127).mean()) > CUT_OFF for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def _outline(mask: Plane, view: Affine) -> NDArray[np.float64] | None:
    """Return points (N, 2) of the frame whose hull contains the product; None if it is cut off or there is none."""
    if _is_cut_off(mask):
        return None
    contours, _ = cv2.findContours((mask > 15).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return None
    hull = cv2.convexHull(np.concatenate(contours))[:, 0].astype(np.float64) + 0.5
    return hull @ view[:2, :2].T + view[:2, 2]


def _on_white(picture: Image, view: Affine, frame: Frame) -> Image:
    return seen(picture, view, frame.pixels, cv2.BORDER_CONSTANT, fill=255)


def _difference(source: Image, target: Image) -> Plane:
    """Return 0 where the two are equal, 255 where they differ by SEEN_LEVELS or more: uint8 (H, W)."""
    return cv2.convertScaleAbs(most_apart(source, target), alpha=255 / SEEN_LEVELS)


#: Opacities below FAINT become 0, those as close to 255 become 255.
_CLEARED = np.clip(np.rint((np.arange(256.0) - FAINT) * 255 / (255 - 2 * FAINT)), 0, 255).astype(np.uint8)

_MAKERS: dict[str, Callable[[Material, Backgrounds, int, str, np.random.Generator], Pair]] = {
    CLEAN_UP: _background_pair,
    "watermark": _watermark_pair,
    "wrong_angle": _angle_pair,
}
