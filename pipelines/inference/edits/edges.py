"""Give the product its own colour in its soft edges when the background behind it is painted over.

A pixel of a soft edge is x = a F + (1 - a) B: a share a of the product's colour F, the rest of the old background's B.
Painting P over it by the matte 1 - a gives a x + (1 - a) P, which still contains a (1 - a) B: a fringe of the removed
background. Here an estimate of F replaces x (see `pipelines.images.unmixing`). F, B and P are averaged nearby at the
edit's size, where `guided` also keeps its models, and enlarged only along soft edges. Time and memory therefore depend
on the edges alone, and a pixel's value does not depend on tiles.

If the matte is wrong, the estimate would smear the product's colour over the background beside it. So the estimate
counts only as far as both sides are visible nearby and the pixel's own colour agrees with the matte; other pixels are
painted over as they are. tests/benchmarks/edges.py measures this against the multi-level estimation of Germer et al.
(2020).
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.images.unmixing import average, unmixed
from pipelines.inference.edits.guided import Places

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
_ALIKE = 0.002


class SoftEdges:
    """Colours of product, old background and paint around each pixel of one edit. Colours are -1..1, shares 0..1."""

    def __init__(self, guide: Tensor, content: Tensor, matte: Tensor, size: tuple[int, int]) -> None:
        """Average both sides.

        guide (3, h, w): the image that the generator saw, moved as the edit moves it. content (3, h, w), matte
        (1, h, w): the edit's; its matte is the background. size: (H, W) of the upload.
        """
        seen, paint = (part.permute(1, 2, 0).contiguous().numpy() for part in (guide, content))
        painted = matte[0].contiguous().numpy()
        product, ground, paint = (
            average(colours, share, REACH)
            for colours, share in ((seen, 1 - painted), (seen, painted), (paint, painted))
        )
        belief = _seen(1 - painted) * _seen(painted)
        planes = np.dstack([product, ground, paint, belief])
        self._planes = torch.from_numpy(planes).permute(2, 0, 1).contiguous()
        self._size = size

    def unmix(
        self, window: tuple[slice, slice], pixels: Tensor, content: Tensor, matte: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return pixels and content (3, H, W) of a window with F and P along its soft edges.

        matte (1, H, W), 0..1. Outside soft edges, and where the matte is 0 or 1, all bits stay; a window without soft
        edges is returned itself.
        """
        box = self._soft(window, matte)
        if box is None:
            return pixels, content
        within = (slice(None), *box)
        places = self._places(_inside(window, box))
        product, ground, paint, belief = places.enlarged(self._planes).split([3, 3, 3, 1])
        mixed, share = pixels[within], 1 - matte[within]
        own = unmixed(mixed, share, product, ground).clamp_(-1, 1)
        apart = product - ground
        disagreed = ((mixed - ground - share * apart) * apart).sum(0) / (apart.square().sum(0) + _ALIKE)
        belief = belief * torch.exp(-((disagreed / DISAGREED) ** 2)) * ((share > 0) & (share < 1))
        pixels, content = pixels.clone(), content.clone()
        pixels[within] += belief * (own - mixed)
        content[within] += belief * (paint - content[within])
        return pixels, content

    def _places(self, window: tuple[slice, slice]) -> Places:
        return Places(self._size, self._planes.shape[1:], window)

    def _soft(self, window: tuple[slice, slice], matte: Tensor) -> tuple[slice, slice] | None:
        """Return the smallest part of a window that contains its soft edges; None if it has none."""
        places, belief = self._places(window), self._planes[9:]
        soft = (matte[0] > 0) & (matte[0] < 1)
        if not (places.of(belief).any() and soft.any()):
            return None
        soft &= places.enlarged(belief)[0] > 0
        rows, columns = (soft.any(dim=axis).nonzero() for axis in (1, 0))
        if not len(rows):
            return None
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _seen(share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how visible a side with these shares (h, w) is around each pixel: (h, w), 0..1."""
    most = cv2.dilate(share, np.ones((REACH, REACH), np.uint8))
    return np.clip((most - np.float32(UNSURE)) * np.float32(1 / (SURE - UNSURE)), 0, 1)


def _inside(window: tuple[slice, slice], part: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return a part of a window as a window of the image."""
    rows, columns = (
        slice(whole.start + some.start, whole.start + some.stop)
        for whole, some in zip(window, part, strict=True)
    )
    return rows, columns
