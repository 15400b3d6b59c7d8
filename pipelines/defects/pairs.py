"""Training pairs made anew for every sample: a clean product in, an image with a defect and its correction out.

Everything is a function of the arguments and the generator, so that a seed, an epoch and an image's id give the same
pair in any process. Both sides of a pair are seen from the same place in the same light; they differ by the defect
alone. A few sources have no defect: labels are wrong at times, and a clean image must then stay as it is.

Pairs are made in the picture's own shape at the size at which the network sees it, and then put onto the network's
square as `pipelines.fit` says.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.defects.angle import (
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
from pipelines.defects.background import product_alpha
from pipelines.defects.colours import Tint
from pipelines.defects.foreground import foreground, on_white, over
from pipelines.defects.grounds import Grounds, shaded
from pipelines.defects.marking import add_mark
from pipelines.defects.registry import Synthesis, synthesis
from pipelines.defects.views import Affine, Frame, moved, sampling_theta, seen
from pipelines.fit import fit_square, place, squared
from pipelines.resize import shrink_bicubic

# Worker processes share the cores already, and pictures of this size gain nothing from threads.
cv2.setNumThreads(1)

#: Share of the sources that have no defect.
CLEAN = 0.05
#: Of backgrounds with a photo: sources that are the photo as it was taken.
PHOTO_ITSELF = 0.6
#: Of marks: those over products on white, and over photos as taken; the rest lies over products on other grounds.
MARKS_ON_WHITE, MARKS_ON_PHOTOS = 0.4, 0.35
#: Of angles: those that are a turn and nothing else.
TURNED_ONLY = 0.8
#: Share of closer crops.
CLOSER = 0.3
#: Share of a side that is product from which on the product is taken to be cut off there.
CUT_OFF = 0.03
#: A difference of this many levels of 255 counts in full where defects do not know what they changed.
SEEN_LEVELS = 16

Image = NDArray[np.uint8]
Plane = NDArray[np.uint8]


class Material(NamedTuple):
    """What pairs are made of.

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
    target. None where they do not differ by an affine map.
    """

    source: Image
    target: Image
    changed: Plane
    theta: NDArray[np.float32] | None


class _Cut(NamedTuple):
    """A product ready to be seen: picture (h, w, 3), mask (h, w), and the grey level of the ground, None for a photo's."""

    picture: Image
    mask: Plane
    ground: int | None


def make_pair(
    defect_synthesis: str,
    material: Material,
    grounds: Grounds,
    size: int,
    fit: str,
    rng: np.random.Generator,
) -> MadePair:
    """A pair that shows the defect of that name (see `registry`), on squares of `size` pixels.

    fit: 'stretch' or 'letterbox', as in `pipelines.fit`. Raises ValueError where the material's parts differ in size,
    ConfigurationError for a synthesis that is not known.
    """
    height, width = material.target.shape[:2]
    for part in (material.mask, material.photo):
        if part is not None and part.shape[:2] != (height, width):
            raise ValueError(f"the target is {(height, width)}, its mask or photo {part.shape[:2]}")
    maker = _MAKERS.get(defect_synthesis)
    if maker is None:
        return _made_by(_synthesis(defect_synthesis), material, size, fit, rng)
    return maker(material, grounds, size, fit, rng)


def _background_pair(
    material: Material, grounds: Grounds, size: int, fit: str, rng: np.random.Generator
) -> MadePair:
    if rng.random() < CLEAN:
        product, alpha = _product(_cut(material), size, fit, rng)
        clean = on_white(product, alpha)
        return _squared(clean, clean, np.zeros_like(alpha), size)
    if material.photo is not None and rng.random() < PHOTO_ITSELF:
        photo, alpha = _photo(material.photo, _mask(material), size, fit, rng)
        return _squared(photo, on_white(foreground(photo, alpha), alpha), 255 - alpha, size)
    product, alpha = _product(_cut(material), size, fit, rng)
    return _squared(_laid(product, alpha, grounds, rng), on_white(product, alpha), 255 - alpha, size)


def _watermark_pair(
    material: Material, grounds: Grounds, size: int, fit: str, rng: np.random.Generator
) -> MadePair:
    kind = float(rng.random())
    if material.photo is not None and kind < MARKS_ON_PHOTOS:
        clean, goods = _photo(material.photo, _mask(material), size, fit, rng)
    else:
        product, goods = _product(_cut(material), size, fit, rng)
        is_white = kind >= 1 - MARKS_ON_WHITE
        clean = on_white(product, goods) if is_white else _laid(product, goods, grounds, rng)
    if rng.random() < CLEAN:
        return _squared(clean, clean, np.zeros_like(goods), size)
    height, width = goods.shape
    shape = math.sqrt(material.target.shape[1] / material.target.shape[0])
    # How the pixels are shown: stretched ones are higher than wide in a portrait.
    unit = (shape / math.sqrt(width / height), math.sqrt(width / height) / shape)
    marked, changed = add_mark(clean, goods, unit, rng)
    return _squared(marked, clean, changed, size)


def _angle_pair(
    material: Material, grounds: Grounds, size: int, fit: str, rng: np.random.Generator
) -> MadePair:
    cut = _cut(material)
    frame, view = _product_view(cut, size, fit, rng, upright=True)
    alpha = seen(cut.mask, frame.to_pixels() @ view, frame.pixels)
    if cut.ground is None:
        cut = _Cut(on_white(foreground(cut.picture, cut.mask), cut.mask), cut.mask, 255)
    tint = Tint.draw(rng)
    picture = tint(cut.picture)
    target = _on_white_view(picture, frame.to_pixels() @ view, frame)
    if rng.random() < CLEAN:
        return _squared(target, target, np.zeros_like(alpha), size, np.eye(3), frame)
    turn, is_affine = _wrong_turn(max(frame.width, frame.height), rng)
    stay = kept_inside(_outline(cut.mask, view), frame.width, frame.height, turn)
    to_middle = np.array([[1.0, 0.0, -frame.width / 2], [0.0, 1.0, -frame.height / 2], [0.0, 0.0, 1.0]])
    turn = np.linalg.inv(to_middle) @ stay @ turn @ to_middle
    source = _on_white_view(picture, frame.to_pixels() @ turn @ view, frame)
    return _squared(source, target, _difference(source, target), size, turn if is_affine else None, frame)


def _wrong_turn(longer: float, rng: np.random.Generator) -> tuple[Affine, bool]:
    """A turn by MIN_DEGREES to MAX_DEGREES, or a slant as `angle.wrong_angle` has them; and whether it is affine."""
    way = 1.0 if rng.random() < 0.5 else -1.0
    if rng.random() < TURNED_ONLY:
        return turned(way * float(rng.uniform(MIN_DEGREES, MAX_DEGREES))), True
    upwards = 90.0 * (float(rng.integers(4)) if rng.random() < 1 / 3 else 2.0 * float(rng.integers(2)))
    slant = slanted(
        float(rng.uniform(MIN_SLANT, MAX_SLANT)),
        upwards + float(rng.normal(0.0, 10.0)),
        longer * float(rng.uniform(NEAREST, FARTHEST)),
    )
    return slant @ turned(way * float(rng.uniform(*CARELESS_DEGREES))), False


def _made_by(maker: Synthesis, material: Material, size: int, fit: str, rng: np.random.Generator) -> MadePair:
    """A pair by a synthesis that takes a clean product on white and returns it with the defect."""
    clean = shrink_bicubic(np.ascontiguousarray(material.target), size)
    tinted = Tint.draw(rng)(clean)
    made = tinted if rng.random() < CLEAN else maker(tinted, rng)
    shape = clean.shape[1], clean.shape[0]
    source, target = (fit_square(image, shape, size, fit) for image in (made, tinted))
    return MadePair(source, target, _difference(source, target), None)


@cache
def _synthesis(name: str) -> Synthesis:
    """Looked up once: each look goes through the metadata of all installed distributions, some 20 ms."""
    return synthesis(name)


def _mask(material: Material) -> Plane:
    if material.mask is not None:
        return material.mask
    return np.rint(product_alpha(material.target) * 255).astype(np.uint8)


def _cut(material: Material) -> _Cut:
    """The product out of its photo where there is one: only there its soft edges are still as they were taken."""
    mask = _mask(material)
    if material.photo is not None:
        return _Cut(material.photo, mask, None)
    return _Cut(material.target, mask, 255)


def _photo(photo: Image, mask: Plane, size: int, fit: str, rng: np.random.Generator) -> tuple[Image, Plane]:
    """A photo as it was taken, seen a little differently and in another light; and its mask."""
    height, width = mask.shape
    frame = Frame.of(width, height, size, fit)
    about, scale = (width / 2, height / 2), float(rng.uniform(0.97, 1.3))
    to = [width * (0.5 + float(rng.uniform(-0.07, 0.07))), height * (0.5 + float(rng.uniform(-0.07, 0.07)))]
    if rng.random() < CLOSER:
        about, scale = _some_point(mask, rng), float(rng.uniform(1.3, 2.0))
        # Not beyond the photo's border, as far as turning allows.
        for axis, length in enumerate((width, height)):
            to[axis] = float(np.clip(to[axis], length - scale * (length - about[axis]), scale * about[axis]))
    degrees = 0.0 if rng.random() < 0.3 else float(rng.uniform(-10, 10))
    view = frame.to_pixels() @ moved(about, (to[0], to[1]), degrees, scale, bool(rng.random() < 0.5))
    return Tint.draw(rng)(seen(photo, view, frame.pixels)), seen(mask, view, frame.pixels)


def _product(cut: _Cut, size: int, fit: str, rng: np.random.Generator) -> tuple[Image, Plane]:
    """The product somewhere in a frame: its own colours (H, W, 3), good where the opacity (H, W) is above 0."""
    frame, view = _product_view(cut, size, fit, rng)
    view = frame.to_pixels() @ view
    border = cv2.BORDER_REPLICATE
    picture = seen(cut.picture, view, frame.pixels, border)
    alpha = seen(cut.mask, view, frame.pixels, border)
    return Tint.draw(rng)(foreground(picture, alpha, cut.ground)), alpha


def _laid(product: Image, alpha: Plane, grounds: Grounds, rng: np.random.Generator) -> Image:
    """The product on a ground that carries its shadow."""
    height, width = alpha.shape
    return over(product, alpha, shaded(grounds.draw(width, height, rng), alpha, rng))


def _product_view(
    cut: _Cut, size: int, fit: str, rng: np.random.Generator, upright: bool = False
) -> tuple[Frame, Affine]:
    """A frame, and the map (3, 3) from the picture's pixels to the frame's unit.

    Products that the picture's border cuts off stay cut off where they were.
    """
    height, width = cut.mask.shape
    mirror = bool(rng.random() < 0.5)
    if _is_cut_off(cut.mask):
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
    x, y, wide, high = cv2.boundingRect((cut.mask > 127).view(np.uint8))
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
    """Where the middle of a product of that length lies along a side: inside where it fits, near the middle most often."""
    room = abs(frame - product) / 2
    return frame / 2 + room * float(rng.uniform(-0.5, 0.5) + rng.uniform(-0.45, 0.45))


def _some_point(mask: Plane, rng: np.random.Generator) -> tuple[float, float]:
    places = np.flatnonzero(mask[::4, ::4] > 127)
    if places.size == 0:
        return mask.shape[1] / 2, mask.shape[0] / 2
    row, column = divmod(int(places[rng.integers(places.size)]), (mask.shape[1] + 3) // 4)
    return 4.0 * column + 2, 4.0 * row + 2


def _is_cut_off(mask: Plane) -> bool:
    return any(float((side > 127).mean()) > CUT_OFF for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def _outline(mask: Plane, view: Affine) -> NDArray[np.float64] | None:
    """Points (N, 2) of the frame whose hull holds the product; None where it is cut off or there is none."""
    if _is_cut_off(mask):
        return None
    contours, _ = cv2.findContours((mask > 15).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return None
    hull = cv2.convexHull(np.concatenate(contours))[:, 0].astype(np.float64) + 0.5
    return hull @ view[:2, :2].T + view[:2, 2]


def _on_white_view(picture: Image, view: Affine, frame: Frame) -> Image:
    return seen(picture, view, frame.pixels, cv2.BORDER_CONSTANT, fill=255)


def _difference(source: Image, target: Image) -> Plane:
    """0 where the two are equal, 255 where they differ by SEEN_LEVELS or more: uint8 (H, W)."""
    apart = cv2.absdiff(source, target).max(axis=-1)
    return np.minimum(apart, np.uint8(255 // SEEN_LEVELS)) * np.uint8(SEEN_LEVELS) + (apart > 0)


def _squared(
    source: Image,
    target: Image,
    changed: Plane,
    size: int,
    turn: Affine | None = None,
    frame: Frame | None = None,
) -> MadePair:
    """The pair on the network's square. turn: (3, 3), from the target to the source in the frame's unit."""
    theta = None
    height, width = changed.shape
    rows, columns = place(height, width, size)
    if turn is not None and frame is not None:
        pixels = frame.to_pixels()
        shift = np.array([[1.0, 0.0, columns.start], [0.0, 1.0, rows.start], [0.0, 0.0, 1.0]])
        theta = sampling_theta(shift @ pixels @ turn @ np.linalg.inv(shift @ pixels), size)
    where = changed
    if changed.shape != (size, size):
        where = np.zeros((size, size), np.uint8)
        where[rows, columns] = changed
    return MadePair(squared(source, size), squared(target, size), where, theta)


_MAKERS: dict[str, Callable[[Material, Grounds, int, str, np.random.Generator], MadePair]] = {
    "non_white_background": _background_pair,
    "watermark": _watermark_pair,
    "wrong_angle": _angle_pair,
}
