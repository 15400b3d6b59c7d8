"""Give the product its own colour in its soft edges, where the ground behind it is painted over.

A pixel of a soft edge shows x = a F + (1 - a) B: a share a of the product's colour F, the rest of the old ground's B.
Painting P over it by the matte 1 - a gives a x + (1 - a) P, in which a (1 - a) B is left: a fringe of a ground that is
gone. Here an estimate of F takes the place of x (see `pipelines.images.unmixing`). What F, B and P look like nearby is
averaged at the edit's size, as `guided` keeps its models, and enlarged only along soft edges: time and memory are those
of the edges, and a pixel's value depends on no tile.

A matte may be wrong. Then the estimate would smear the product's colour over the ground beside it, so it is believed
as far as both sides are there to be seen and the pixel's own colour agrees with the matte; elsewhere pixels are painted
over as they are. Measured by tests/benchmarks/edges.py, the multi-level estimation of Germer et al. (2020) beside it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.images.unmixing import average

Array = NDArray[np.float32]

#: Side of the window, in the edit's pixels, over which colours are averaged: an edge may be two or three of them wide.
REACH = 7
#: A side is seen where the window has a pixel that is SURE of it, and not where none is more than UNSURE of it, as in
#: the midst of a product that the matte is in doubt of: pixels keep their colour there.
UNSURE, SURE = 0.5, 0.9
#: Opacity by which a pixel's colour may disagree with the matte: at this difference, belief is down to 1/e. Without it
#: edges of exact mattes gain another 0.04 to 0.1 of CIE76, but mattes that miss the edge get a halo of the product's
#: colour on light grounds. With half of it exact mattes lose as much again.
DISAGREED = 0.2
#: Squared distance of the two sides' colours below which a pixel's colour says little of its opacity: 6 levels.
ALIKE = 0.002


def soft_edges(guide: Array, content: Array, matte: Array) -> Array:
    """Return what product, old background and paint look like around each pixel: float32 (h,w,paint.EDGE_PLANES).

    guide: float32 (h,w,3), the image that the generator saw, moved as the edit moves it. content: float32 (h,w,3),
    matte: float32 (h,w), the edit's; its matte is the background. Colours are -1..1, shares 0..1.
    """
    product, background, paint = (
        average(colours, share, REACH)
        for colours, share in ((guide, 1 - matte), (guide, matte), (content, matte))
    )
    belief = _seen(1 - matte) * _seen(matte)
    return np.dstack([product, background, paint, belief])


def _seen(share: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far a side with these shares (h, w) is there to be seen around each pixel: (h, w), 0..1."""
    most = cv2.dilate(share, np.ones((REACH, REACH), np.uint8))
    return np.clip((most - np.float32(UNSURE)) * np.float32(1 / (SURE - UNSURE)), 0, 1)
