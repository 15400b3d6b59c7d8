"""The interface between a product's module and the scene: the product's size, its pose, and how to paint it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pipelines.synthesis.products.canvas import Canvas

#: Direction towards the light in product pictures: x and y, y downwards.
LIGHT = (-0.55, -0.83)


class Pose(Enum):
    """How a product touches the surface in its photo."""

    STANDING = "standing"  # on its lower edge, seen from the side
    LYING = "lying"  # flat, seen from above
    CLOTH = "cloth"  # flat, and slipped a little out of its symmetric shape


@dataclass(frozen=True)
class Design:
    """One product of its type with all random choices made, before it is painted at some size."""

    extent: tuple[float, float, float, float]  # left, top, right, bottom in product units
    pose: Pose
    paint: Callable[[Canvas], None]
