"""Defects drawn over images that have others already, so that a detector learns to tell each beside the others.

In prepared shards an image shows one defect. Uploads do not keep to that: a photo on a bed has a watermark, and a
detector that has only seen watermarks on white takes every pattern on a bed for one, or none.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.synthesis.defects import rotate, tilt
from pipelines.synthesis.defects.angle import WHITE
from pipelines.synthesis.defects.registry import BUILT_IN

#: uint8 (H,W,3) to the same with the defect.
Overlay = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]
#: Share of the border's pixels that are white in a product picture: what a turn uncovers is white there.
WHITE_BORDER = 0.9
#: Turns that count as a wrong angle, degrees, as `pipelines.synthesis.defects.tilt` has them; and those that
#: nobody would see.
TURNED, STEADY = (8.0, 30.0), 2.0


def turn(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture turned by TURNED degrees either way: on white as `tilt` does, a photo with its surroundings."""
    if is_white(image):
        return tilt(image, rng, min_degrees=TURNED[0], max_degrees=TURNED[1])
    return turn_mirrored(image, float(rng.uniform(*TURNED)) * (1 if rng.random() < 0.5 else -1))


def waver(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture turned by at most STEADY degrees: whatever turning does to pixels, it must not tell a wrong angle."""
    degrees = float(rng.uniform(-STEADY, STEADY))
    return rotate(image, degrees) if is_white(image) else turn_mirrored(image, degrees)


def turn_mirrored(image: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """uint8 (H,W,3) turned about its centre; what comes from outside is the picture mirrored at its border."""
    height, width = image.shape[:2]
    angle = math.radians(abs(degrees))
    # No farther out than the picture itself is large, which mirroring could not fill.
    down = min(height - 1, math.ceil((width * math.sin(angle) + height * (math.cos(angle) - 1)) / 2) + 2)
    across = min(width - 1, math.ceil((height * math.sin(angle) + width * (math.cos(angle) - 1)) / 2) + 2)
    padded = np.pad(image, ((max(0, down),) * 2, (max(0, across),) * 2, (0, 0)), mode="reflect")
    turned = np.array(Image.fromarray(padded).rotate(degrees, Image.Resampling.BICUBIC))
    top, left = (turned.shape[0] - height) // 2, (turned.shape[1] - width) // 2
    return turned[top : top + height, left : left + width]


def is_white(image: NDArray[np.uint8]) -> bool:
    """Whether the picture's border is white, as a product picture's."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return float((border >= WHITE).all(axis=1).mean()) >= WHITE_BORDER


#: By the defect's name: what can be put into any picture, whatever is behind the goods. Others are learned from the
#: shards' own sources alone.
OVERLAYS: dict[str, Overlay] = {
    **{name: make for name, make in BUILT_IN.items() if name != "non_white_background"},
    "wrong_angle": turn,
}
