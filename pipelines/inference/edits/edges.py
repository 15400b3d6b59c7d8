"""Give the product its own colour in its soft edges when the background behind it is painted over.

A pixel of a soft edge is x = a F + (1 - a) B: a share a of the product's colour F, the rest of the old background's B.
Painting P over it by the matte 1 - a gives a x + (1 - a) P, which still contains a (1 - a) B: a fringe of the removed
background. Here an estimate of F replaces x (see `pipelines.images.unmixing`). F, B and P are averaged nearby at the
edit's size, where `guided` also keeps its models, and enlarged where the matte is neither 0 nor 1.

If the matte is wrong, the estimate would smear the product's colour over the background beside it. So the estimate
counts only as far as both sides are visible nearby and the pixel's own colour agrees with the matte; other pixels are
painted over as they are. tests/benchmarks/edges.py measures this against the multi-level estimation of Germer et al.
(2020).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.images.unmixing import average

Array = NDArray[np.float32]

#: The planes of `soft_edges`: the colours of product, old background and paint, and how far they are believed.
PRODUCT, BACKGROUND, PAINT, BELIEF, EDGE_PLANES = 0, 3, 6, 9, 10

#: Side of the window, in the edit's pixels, over which colours are averaged: an edge may be two or three of them wide.
REACH = 7
#: A side counts as visible from a share of UNSURE (not at all) to SURE (fully) in any pixel of the window. Inside a
#: product whose matte is doubtful, pixels therefore keep their colour.
UNSURE, SURE = 0.5, 0.9
#: Difference of opacity between a pixel's colour and the matte at which belief is down to 1/e. Without this limit edges
#: of exact mattes gain another 0.04 to 0.1 of CIE76, but mattes that miss the edge get a halo of the product's colour
#: on light backgrounds. With half of it exact mattes lose as much again.
DISAGREED = 0.2
#: Squared distance of the two sides' colours below which a pixel's colour says little of its opacity: 6 levels.
ALIKE = 0.002


def soft_edges(guide: Array, content: Array, matte: Array) -> Array:
    """Return what product, old background and paint look like around each pixel: float32 (h,w,EDGE_PLANES).

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
    """Return how visible a side with these shares (h, w) is around each pixel: (h, w), 0..1."""
    most = cv2.dilate(share, np.ones((REACH, REACH), np.uint8))
    return np.clip((most - np.float32(UNSURE)) * np.float32(1 / (SURE - UNSURE)), 0, 1)
