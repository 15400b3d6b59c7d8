"""Enlarge an edit's content and matte to the upload's size so that their edges follow the upload's.

Around each pixel of the edit, content and matte are modelled as linear in the three colours that the generator saw; the
models are enlarged bilinearly and meet the upload's own colours. That is the guided filter (He, Sun and Tang, 2013,
equations 19 to 21) in its fast form (He and Sun, 2015): all statistics are of the edit's size, whatever the upload's.
Where the model is the identity, as under a faint watermark, the upload's detail comes through. Colours are -1..1,
mattes 0..1.

Alternatives that were measured and rejected (drawn scenes of 1,000 to 2,000 pixels as JPEG, exact mattes at 128): joint
bilateral upsampling (Kopf et al., 2007), 1.7 dB less in the band along the edges; larger windows, 1 dB less; models
fitted at 256 or 512 pixels to a bilinearly enlarged matte, at least 6 dB less.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.images.guided_filter import colour_models

Array = NDArray[np.float32]

#: The planes of `fitted`: for red, green and blue of the content and for the matte, three slopes and an offset each
#: (`images.guided_filter`); then the smallest and the largest matte nearby.
CONTENT, MATTE, LOW, HIGH, PLANES = 0, 12, 16, 17, 18

#: Variance of a colour (on -1..1) below which it explains little of the matte: differences of 8 levels. A thirtieth of
#: it gave 2 dB more on exact mattes, but mattes that miss the product's edge, as an early model's do, became grainy.
MATTE_RIDGE = 4e-3
#: The same for content, differences of 2.5 levels: the product's texture must survive even if all is repainted.
CONTENT_RIDGE = 4e-4
#: The ridge and the averaging of neighbouring windows flatten edges, so this share at either end of the matte's local
#: range is clipped to that end. Twice as much gave 2 dB more on exact mattes, and grain on those that miss the edge.
FLATTENED = 0.1
#: Weight of content that is not painted: it must not bleed in, but a window without paint needs some value.
_UNPAINTED = 1e-3


def fitted(guide: Array, content: Array, matte: Array, size: tuple[int, int]) -> Array:
    """Return content and matte as models of the guide's colours: float32 (h,w,PLANES).

    guide: float32 (h,w,3), the image that the generator saw, moved as the edit moves it. content: float32 (h,w,3),
    matte: float32 (h,w), the edit's. size: (H, W) of the upload. Uploads up to the edit's size get the edit itself,
    from twice its size on the models, and a mixture in between.
    """
    trust = min(max(min(size[0] / matte.shape[0], size[1] / matte.shape[1]) - 1, 0), 1)
    colours, values, exact = (part.astype(np.float64) for part in (guide, content, matte))
    planes = np.zeros((*matte.shape, PLANES), np.float32)
    low, high = cv2.erode(matte, _around(1)), cv2.dilate(matte, _around(1))
    planes[..., LOW], planes[..., HIGH] = (matte + trust * (bound - matte) for bound in (low, high))
    # Where content is one colour, painting need not look at the upload's; where the matte is, neither.
    varies = _wanted(high > 0) & ~_is_constant(content) & (trust > 0)
    models = colour_models(colours, values, exact + _UNPAINTED, 1, CONTENT_RIDGE, varies)
    planes[..., CONTENT:MATTE] = (np.float32(trust) * models).reshape(*matte.shape, -1)
    planes[..., CONTENT + 3 : MATTE : 4] += np.where(varies[..., None], np.float32(1 - trust), 1) * content
    ones, varies = np.ones_like(exact), _wanted(low < high)
    planes[..., MATTE:LOW] = colour_models(colours, exact[..., None], ones, 1, MATTE_RIDGE, varies)[:, :, 0]
    return planes


def _wanted(used: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels whose models meet those at `used` pixels, when both are enlarged: bool (h,w)."""
    return cv2.dilate(used.view(np.uint8), _around(1)).view(bool)


def _around(reach: int) -> NDArray[np.uint8]:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


def _is_constant(content: Array) -> NDArray[np.bool_]:
    """Return where content (h,w,3) is one colour, as far as a model's windows reach: bool (h,w)."""
    return (cv2.dilate(content, _around(2)) == cv2.erode(content, _around(2))).all(axis=2)
