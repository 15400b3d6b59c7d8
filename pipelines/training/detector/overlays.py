"""Draws defects over images that already have others, so that a detector learns to recognise each beside the others.

In prepared shards an image shows one defect, but an upload may show several: a photo on a bed with a watermark. A
detector that has seen watermarks only on white would take every pattern on a bed for one, or none.
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
#: Smallest share of white border pixels in a picture on white. What a turn uncovers is filled with white there.
WHITE_BORDER = 0.9
#: In degrees: turns that count as a wrong angle, as in `pipelines.synthesis.defects.tilt`; and the largest turn that is
#: too small to see.
TURNED, STEADY = (8.0, 30.0), 2.0


def turn(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn the picture by TURNED degrees either way: as `tilt` does if it is on white, else with its surroundings."""
    if is_white(image):
        return tilt(image, rng, min_degrees=TURNED[0], max_degrees=TURNED[1])
    return turn_mirrored(image, float(rng.uniform(*TURNED)) * (1 if rng.random() < 0.5 else -1))


def waver(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn the picture by at most STEADY degrees, so that traces of turning in the pixels do not mean a wrong angle."""
    degrees = float(rng.uniform(-STEADY, STEADY))
    return rotate(image, degrees) if is_white(image) else turn_mirrored(image, degrees)


def turn_mirrored(image: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Turn uint8 (H,W,3) about its centre; pixels from outside are the picture mirrored at its border."""
    height, width = image.shape[:2]
    angle = math.radians(abs(degrees))
    # Mirroring cannot pad by more than the picture's own size.
    down = min(height - 1, math.ceil((width * math.sin(angle) + height * (math.cos(angle) - 1)) / 2) + 2)
    across = min(width - 1, math.ceil((height * math.sin(angle) + width * (math.cos(angle) - 1)) / 2) + 2)
    padded = np.pad(image, ((max(0, down),) * 2, (max(0, across),) * 2, (0, 0)), mode="reflect")
    turned = np.array(Image.fromarray(padded).rotate(degrees, Image.Resampling.BICUBIC))
    top, left = (turned.shape[0] - height) // 2, (turned.shape[1] - width) // 2
    return turned[top : top + height, left : left + width]


def is_white(image: NDArray[np.uint8]) -> bool:
    """Return True if the picture's border is white."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return float((border >= WHITE).all(axis=1).mean()) >= WHITE_BORDER


#: By the defect's name: overlays that suit any picture, whatever the background. Other defects are learned only from
#: the shards' own sources.
OVERLAYS: dict[str, Overlay] = {
    **{name: make for name, make in BUILT_IN.items() if name != "non_white_background"},
    "wrong_angle": turn,
}
