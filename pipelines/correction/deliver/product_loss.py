"""Measures how much of the product a correction of the background painted white, and whether the kept part is one.

The generator's matte cannot say: a model that takes cloth for background is sure of it. Three figures need no model:
how much of an independent estimate of the product is white now, how much of that lies in holes of the kept part, and
how much of the kept part's outline has no edge in the upload. The estimate errs too. So the first two figures count
fully only if the estimate separates the photo's colours better than the kept part does, or if the upload's background
was white already, so that nearly nothing had to go.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.correction.deliver.product import Product
from pipelines.correction.deliver.white import NEAR_WHITE, darkest_channel, reached_from_border
from pipelines.images.colour import local_mean, rgb_to_lab, separation

#: By how much an estimate must separate colours better than the kept part (`separation`, 0.5 to 1), and the lowest
#: separation at which it is trusted at all.
BETTER, TRUSTED = 0.01, 0.8
#: Factors on the share that may be lost: if the upload was on white, and if the estimate explains the photo no better
#: than the kept part. The factor is 1 if it explains more.
ON_WHITE, DOUBTFUL = 0.4, 2.4
#: Share of the upload's border that is near-white: from here on, the upload counts as on white.
WHITE_BORDER = 0.8
#: Pixels of the border at `product.SIDE`.
_BORDER = 2
#: CIE76 difference from white below which a pixel cannot be lost.
_COLOUR = 6.0
#: Mean colours on both sides of an outline that differ by less (CIE76) are no edge. Side of the squares over which the
#: means are taken, in pixels.
_EDGE, _REACH = 5.0, 5


class ProductLoss(NamedTuple):
    """Shares in [0, 1]. lost: of the estimate, the part that is white now; holes: of the estimate, the part that is
    white and enclosed by the kept part; weak_outline: of the kept part's outline, the part with no edge in the upload.

    on_white: the upload's background was white. estimate, kept: `separation` of the estimate and of the kept part.
    """

    lost: float
    holes: float
    weak_outline: float
    on_white: bool
    estimate: float
    kept: float

    @property
    def allowance(self) -> float:
        """Factor on the share that may be lost: below 1 if little had to go, above 1 if the estimate is doubtful,
        infinity if it cannot be trusted.
        """
        if self.on_white:
            return ON_WHITE
        if self.estimate < TRUSTED:
            return math.inf
        return 1.0 if self._explains_more else DOUBTFUL

    @property
    def trusted_holes(self) -> float:
        """`holes`, or 0 if the estimate explains the photo no better than the kept part: gaps between straps."""
        return self.holes if self.estimate >= TRUSTED and self._explains_more else 0.0

    @property
    def _explains_more(self) -> bool:
        return self.kept < self.estimate - BETTER


def measure_product_loss(
    before: NDArray[np.uint8], after: NDArray[np.uint8], product: Product
) -> ProductLoss:
    """Compare an upload and its correction, uint8 (h,w,3) as `product.compared` gives them; `product`: the upload's."""
    lab = rgb_to_lab(before)
    coloured = np.linalg.norm(lab - np.array([100, 0, 0], np.float32), axis=2) > _COLOUR
    gone = coloured & (_way_to_white(before, after) > 0.5)
    kept = coloured & ~gone
    enclosed = ndimage.binary_fill_holes(kept) & gone
    return ProductLoss(
        lost=_share(gone, product.core),
        holes=_share(enclosed, product.core),
        weak_outline=_weak_outline(lab, kept, gone),
        on_white=_is_on_white(before),
        estimate=_separation(lab, product.mask),
        kept=_separation(lab, kept),
    )


def _way_to_white(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how far each pixel (h, w) moved towards white: 0 is not at all (or away from it), 1 is all the way."""
    distance, remaining = (np.linalg.norm(255.0 - image, axis=2) for image in (before, after))
    return 1 - remaining / np.maximum(distance, 1)


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
    background = reached_from_border(darkest_channel(before) >= NEAR_WHITE)
    border = np.ones(background.shape, bool)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    return float(background[border].mean()) >= WHITE_BORDER


def _separation(lab: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    """Return `separation`; its minimum, 0.5, for a region that is empty or everything."""
    return separation(lab, region) if region.any() and not region.all() else 0.5


def _share(region: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    total = int(among.sum())
    return int((region & among).sum()) / total if total else 0.0
