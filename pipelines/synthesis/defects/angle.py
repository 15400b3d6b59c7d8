"""Wrong angles: products turned in the picture, or seen by a camera that was not perpendicular to them.

Severity. Turned by 8 to 30 degrees: less looks upright, more is a product lying down, for which no direction is
certain to be up. Seen at 12 to 24 degrees off the perpendicular, from a distance of 0.9 to 1.5 times the picture's
longer side: a phone held over a table, whose main lens sees a scene about as wide as its distance. Converging edges
are then 1.1 to 1.6 times as long at one end as at the other; at larger angles the product's far side is hidden.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Degrees by which `tilt` and `wrong_angle` turn.
MIN_DEGREES, MAX_DEGREES = 8.0, 30.0
#: Degrees between the camera's axis and the perpendicular, and the camera's distance as a share of the longer side.
MIN_SLANT, MAX_SLANT = 12.0, 24.0
NEAREST, FARTHEST = 0.9, 1.5
#: Degrees by which a product seen at a slant is also turned, if it is not turned on purpose.
CARELESS_DEGREES = 2.0, 6.0
#: Shares of wrong angles that are only turned, and turned as well as slanted; the others are slanted.
TURNED_ONLY, BOTH = 0.45, 0.35
#: A pixel with a channel below this is product, not the white around it.
WHITE = 240
#: A product that would leave the picture is made smaller, to this share at most.
MIN_SCALE = 0.6
#: Width of a rim of the fill's colour, so that the picture's border is interpolated instead of cut into steps.
MARGIN = 2


def tilt(
    image: NDArray[np.uint8],
    rng: np.random.Generator,
    fill: int = 255,
    min_degrees: float = MIN_DEGREES,
    max_degrees: float = MAX_DEGREES,
) -> NDArray[np.uint8]:
    """Turn the picture about its centre by min_degrees to max_degrees, in either direction; see `rotate`."""
    degrees = float(rng.uniform(min_degrees, max_degrees)) * (1.0 if rng.random() < 0.5 else -1.0)
    return rotate(image, degrees, fill)


def rotate(image: NDArray[np.uint8], degrees: float, fill: int = 255) -> NDArray[np.uint8]:
    """Turn uint8 (H, W, 3) counter-clockwise about its centre, at the picture's own aspect ratio.

    The size stays; pixels from outside have the grey level `fill`. Bicubic, the border included.
    """
    padded = np.pad(image, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=fill)
    turned = Image.fromarray(padded).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(fill, fill, fill))
    return np.array(turned)[MARGIN:-MARGIN, MARGIN:-MARGIN]


def wrong_angle(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn a product on white by 8 to 30 degrees, or see it at a slant, or both.

    image: uint8 (H, W, 3). Returns a new uint8 (H, W, 3); pixels from outside are white. A product inside the picture
    stays inside: it is made smaller, by MIN_SCALE at most, and moved as far as needed. A picture that is white all over
    stays white.
    """
    height, width = image.shape[:2]
    kind = float(rng.random())
    direction = 1.0 if rng.random() < 0.5 else -1.0
    turns = kind < TURNED_ONLY + BOTH
    degrees = direction * float(
        rng.uniform(MIN_DEGREES, MAX_DEGREES) if turns else rng.uniform(*CARELESS_DEGREES)
    )
    moved = turned(degrees)
    if kind >= TURNED_ONLY:
        distance = max(height, width) * float(rng.uniform(NEAREST, FARTHEST))
        slant = float(rng.uniform(MIN_SLANT, MAX_SLANT))
        # From above or below twice as often as from a side, because products usually lie in front of the photographer.
        upwards = 90.0 * (float(rng.integers(4)) if rng.random() < 1 / 3 else 2.0 * float(rng.integers(2)))
        moved = slanted(slant, upwards + float(rng.normal(0.0, 10.0)), distance) @ moved
    return transform(image, kept_inside(_outline(image), width, height, moved) @ moved)


def slanted(degrees: float, axis_degrees: float, distance: float) -> NDArray[np.float64]:
    """Return the homography (3, 3) of a plane seen `degrees` off its perpendicular, about a point in its middle.

    The plane is turned about an axis through that point, axis_degrees from the horizontal, and projected from a
    `distance` in pixels, so that the middle keeps its size: x' = x d / (d + y sin a), y' = y cos a d / (d + y sin a)
    for a horizontal axis.
    """
    angle = math.radians(degrees)
    projection = np.diag([1.0, math.cos(angle), 1.0])
    projection[2, 1] = math.sin(angle) / distance
    about = turned(axis_degrees)
    return about @ projection @ about.T


def transform(
    image: NDArray[np.uint8], homography: NDArray[np.float64], fill: int = 255
) -> NDArray[np.uint8]:
    """Move the pixels of uint8 (H, W, 3) by a homography about the picture's centre, x right and y down.

    The size stays; pixels from outside have the grey level `fill`. Bicubic.
    """
    height, width = image.shape[:2]
    padded = np.pad(image, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=fill)
    to_centre = np.array([[1.0, 0.0, -width / 2 - MARGIN], [0.0, 1.0, -height / 2 - MARGIN], [0.0, 0.0, 1.0]])
    back = np.linalg.inv(np.linalg.inv(to_centre) @ homography @ to_centre)  # Pillow maps output to input
    data = (back / back[2, 2]).ravel()[:8].tolist()
    moved = Image.fromarray(padded).transform(
        (width + 2 * MARGIN, height + 2 * MARGIN),
        Image.Transform.PERSPECTIVE,
        data,
        Image.Resampling.BICUBIC,
        fillcolor=(fill, fill, fill),
    )
    return np.array(moved)[MARGIN:-MARGIN, MARGIN:-MARGIN]


def turned(degrees: float) -> NDArray[np.float64]:
    """Return the homography (3, 3) of a turn about the origin, counter-clockwise to a viewer, with y downwards."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def kept_inside(
    outline: NDArray[np.float64] | None, width: float, height: float, homography: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the homography (3, 3) that scales and shifts a moved product into the picture; the identity if it is
    inside.

    outline: float (N, 2), points x, y from the picture's top left corner whose hull contains the product; None moves
    nothing. homography: the product's movement, about the picture's centre. Scales by MIN_SCALE at least.
    """
    half = np.array([width, height]) / 2
    fitting = np.eye(3)
    if outline is None:
        return fitting
    x, y, w = homography @ np.vstack([(outline - half).T, np.ones(len(outline))])
    moved = np.stack([x / w, y / w], axis=1)
    low, high = moved.min(axis=0), moved.max(axis=0)
    scale = float(np.clip((2 * half / (high - low)).min(), MIN_SCALE, 1.0))
    # The smallest shift that brings both ends inside; if there is none, the product is centred.
    first, last = -half - scale * low, half - scale * high
    shift = np.where(first <= last, np.clip(0.0, first, last), (first + last) / 2)
    fitting[0, 0] = fitting[1, 1] = scale
    fitting[:2, 2] = shift
    return fitting


def _outline(image: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Return the ends of the product in every row, float (N, 2), x before y; None if there is none or it is cut off.

    A product that the border already cuts off may be cut off elsewhere, too.
    """
    goods = image.min(axis=-1) < WHITE
    rows = np.flatnonzero(goods.any(axis=1))
    border = np.concatenate([goods[0], goods[-1], goods[:, 0], goods[:, -1]])
    if rows.size == 0 or border.mean() > 0.02:
        return None
    first = goods[rows].argmax(axis=1)
    last = goods.shape[1] - goods[rows, ::-1].argmax(axis=1)
    down = np.concatenate([rows, rows + 1])
    return np.stack(
        [np.concatenate([first, first, last, last]), np.concatenate([down, down])], axis=1
    ).astype(np.float64)
