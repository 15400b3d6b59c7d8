"""What a product's module hands to the scene: how large it is, how it lies, and how to paint it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pipelines.synthesis.products.canvas import Canvas

#: Where light comes from in product pictures: x and y of the direction towards it, y downwards.
LIGHT = (-0.55, -0.83)


class Pose(Enum):
    """How a product meets the ground in its photo."""

    STANDING = "standing"  # on its lower edge, seen from the side
    LYING = "lying"  # flat, seen from above
    CLOTH = "cloth"  # flat, and slipped a little out of its symmetric shape


@dataclass(frozen=True)
class Design:
    """One product of its type, all random choices made, before it is painted at some size."""

    extent: tuple[float, float, float, float]  # left, top, right, bottom in product units
    pose: Pose
    paint: Callable[[Canvas], None]
