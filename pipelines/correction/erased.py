"""What of the product a correction of the background has painted white, and whether what it kept is one.

The generator's matte cannot say: a model that takes cloth for ground is sure of it. Three figures need no model: how
much of an independent estimate of the product is white now, how much of that lies in holes of what was kept, and how
much of the outline of what was kept is no edge in the upload. The estimate errs too, so the first two count as far as
it explains the photo: where it divides the photo's colours better than what the correction kept, or where the upload's
ground was white already and nearly nothing had to go.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.colour import rgb_to_lab
from pipelines.correction.product import Product
from pipelines.correction.white import NEAR_WHITE, darkest_channel, reached_from_border
from pipelines.dataset.mask_quality import local_mean, separation

#: By how much an estimate must divide colours better than what was kept (`separation`, 0.5 to 1), and the least at
#: which it is an estimate at all.
BETTER, TRUSTED = 0.01, 0.8
#: What may be lost where the upload was on white, and where the estimate explains the photo no better than what was
#: kept: in units of what may be lost where it explains more.
ON_WHITE, DOUBTFUL = 0.4, 2.4
#: Share of the upload's border that is near-white: from here on it is on white.
WHITE_BORDER = 0.8
#: Pixels of the border at `product.SIDE`.
_BORDER = 2
#: CIE76 difference to white below which a pixel is nothing that could be lost.
_COLOUR = 6.0
#: Mean colours that differ by less (CIE76) on either side of an outline are no edge. Sides of the squares in which they
#: are compared, in pixels.
_EDGE, _REACH = 5.0, 5


class Erased(NamedTuple):
    """Shares in [0, 1]. lost: of the estimate, what is white now; holes: of it, what is white and enclosed by what was
    kept; weak_outline: of the outline of what was kept, where it ends without an edge in the upload.

    on_white: whether the upload's ground was white. estimate, kept: `separation` of the estimate and of what was kept.
    """

    lost: float
    holes: float
    weak_outline: float
    on_white: bool
    estimate: float
    kept: float

    @property
    def allowance(self) -> float:
        """By what to multiply the share that may be lost: less where little had to go, more where the estimate is
        doubtful, infinity where it is none.
        """
        if self.on_white:
            return ON_WHITE
        if self.estimate < TRUSTED:
            return math.inf
        return 1.0 if self._explains_more else DOUBTFUL

    @property
    def trusted_holes(self) -> float:
        """`holes`, or 0 where the estimate explains the photo no better than what was kept: gaps between straps."""
        return self.holes if self.estimate >= TRUSTED and self._explains_more else 0.0

    @property
    def _explains_more(self) -> bool:
        return self.kept < self.estimate - BETTER


def measure_erased(before: NDArray[np.uint8], after: NDArray[np.uint8], product: Product) -> Erased:
    """Compare an upload and its correction, uint8 (h,w,3) as `product.compared` gives them; `product`: the upload's."""
    lab = rgb_to_lab(before)
    coloured = np.linalg.norm(lab - np.array([100, 0, 0], np.float32), axis=2) > _COLOUR
    gone = coloured & (_way_to_white(before, after) > 0.5)
    kept = coloured & ~gone
    enclosed = ndimage.binary_fill_holes(kept) & gone
    return Erased(
        lost=_share(gone, product.core),
        holes=_share(enclosed, product.core),
        weak_outline=_weak_outline(lab, kept, gone),
        on_white=_is_on_white(before),
        estimate=_separation(lab, product.mask),
        kept=_separation(lab, kept),
    )


def _way_to_white(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far each pixel (h, w) has gone towards white: 0 is not at all (or away from it), 1 is all the way."""
    room, left = (np.linalg.norm(255.0 - image, axis=2) for image in (before, after))
    return 1 - left / np.maximum(room, 1)


def _weak_outline(lab: NDArray[np.float32], kept: NDArray[np.bool_], gone: NDArray[np.bool_]) -> float:
    outline = kept & ~ndimage.binary_erosion(kept, border_value=1)
    beside = kept & ndimage.binary_dilation(gone)
    if not beside.any():
        return 0.0
    inside, _ = local_mean(lab, kept, _REACH)
    outside, _ = local_mean(lab, gone, _REACH)
    weak = np.linalg.norm((inside - outside)[beside], axis=-1) < _EDGE
    return float(weak.sum() / outline.sum())


def _is_on_white(before: NDArray[np.uint8]) -> bool:
    ground = reached_from_border(darkest_channel(before) >= NEAR_WHITE)
    border = np.ones(ground.shape, bool)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    return float(ground[border].mean()) >= WHITE_BORDER


def _separation(lab: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    """`separation`; the least, 0.5, for a region that divides nothing."""
    return separation(lab, region) if region.any() and not region.all() else 0.5


def _share(region: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    total = int(among.sum())
    return int((region & among).sum()) / total if total else 0.0
