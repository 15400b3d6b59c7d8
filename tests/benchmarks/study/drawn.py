"""Drawn scenes in the place of real photos: for the small study, and for pictures that may be shown."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipelines.images.encode import encode_image, encode_mask
from pipelines.synthesis.products import Scene, draw_scene

#: Longest side of the small study's scenes, in pixels.
SIDE = 96
#: One scene in so many gets no mask, and stays unpaired.
WITHOUT_MASK = 6


def photos(count: int, side: int = SIDE) -> Iterator[dict[str, Any]]:
    """Yield rows like those of the real photos' tables, some without masks. side: the longest, in pixels."""
    for number in range(count):
        image_id = f"scene-{number:03}"
        scene = scene_of(image_id, (side,))
        mask = encode_mask(np.rint(scene.mask * 255).astype(np.uint8))
        yield {
            "image_id": image_id,
            "product_type": scene.product_type,
            "image": encode_image(scene.photo, "jpeg", quality=95),
            "mask": None if number % WITHOUT_MASK == 0 else mask,
        }


def scene_of(image_id: str, long_sides: tuple[int, ...] = (384,)) -> Scene:
    """Return a drawn scene, the same for every run."""
    return draw_scene(image_id, seed=17, room_degrees=30.0, long_sides=long_sides)
