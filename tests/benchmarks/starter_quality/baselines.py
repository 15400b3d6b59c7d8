"""Methods that an engineer would try first: classical saliency, inpainting, deskewing."""

import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.saliency.classical import ClassicalSaliency
from pipelines.synthesis.defects.angle import rotate
from tests.benchmarks.starter_quality.cases import ANGLE, BACKGROUND, MARK_ON_PHOTO, MARK_ON_WHITE, Case
from tests.benchmarks.starter_quality.samples import on_white

#: Pixels around the mark from which inpainting takes its colours.
INPAINT_RADIUS = 3
#: A pixel with a channel below this is product.
INK = 244


def saliency_on_white(case: Case) -> NDArray[np.uint8]:
    """Return the photo over white through the project's classical saliency, uint8 (H,W,3)."""
    mask = ClassicalSaliency()([case.pixels])[0]
    return on_white(case.pixels, np.rint(mask * 255).astype(np.uint8))


def telea(case: Case) -> NDArray[np.uint8]:
    """Return the upload with the area under the mark (its true position) inpainted by Telea (2004)."""
    return _inpainted(case, cv2.INPAINT_TELEA)


def navier_stokes(case: Case) -> NDArray[np.uint8]:
    """Return the upload with the area under the mark (its true position) inpainted by Bertalmio et al. (2001)."""
    return _inpainted(case, cv2.INPAINT_NS)


def principal_axes(case: Case) -> NDArray[np.uint8]:
    """Turn the picture until the longer principal axis of the product is level or plumb, whichever is nearer."""
    return rotate(case.pixels, -axis_degrees(case.pixels))


def hough_lines(case: Case) -> NDArray[np.uint8]:
    """Turn the picture until the straight edges are level or plumb."""
    return rotate(case.pixels, -line_degrees(case.pixels))


#: The methods by task and name.
BASELINES: Mapping[str, Mapping[str, Callable[[Case], NDArray[np.uint8]]]] = {
    BACKGROUND: {"classical saliency": saliency_on_white},
    MARK_ON_PHOTO: {"inpainting, Telea": telea, "inpainting, Navier-Stokes": navier_stokes},
    MARK_ON_WHITE: {"inpainting, Telea": telea, "inpainting, Navier-Stokes": navier_stokes},
    ANGLE: {"principal axes": principal_axes, "Hough lines": hough_lines},
}


def axis_degrees(image: NDArray[np.uint8]) -> float:
    """Return the degrees, counter-clockwise in -45..45, of the product's longer principal axis in uint8 (H,W,3)."""
    y, x = np.nonzero(image.min(axis=2) < INK)
    if x.size < 2:
        return 0.0
    _, vectors = np.linalg.eigh(np.cov(np.stack([x, -y]).astype(np.float64)))
    return _to_nearest_axis(math.degrees(math.atan2(vectors[1, -1], vectors[0, -1])))


def line_degrees(image: NDArray[np.uint8]) -> float:
    """Return the degrees, counter-clockwise in -45..45, of the straight edges of uint8 (H,W,3).

    It is the median by length, or 0 without edges.
    """
    edges = cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 50, 150)
    shortest = min(image.shape[:2]) / 8
    lines = cv2.HoughLinesP(edges, 1, math.pi / 360, 40, minLineLength=shortest, maxLineGap=shortest / 8)
    if lines is None:
        return 0.0
    x0, y0, x1, y1 = lines.reshape(-1, 4).astype(float).T
    degrees = np.array(
        [_to_nearest_axis(math.degrees(math.atan2(b, a))) for a, b in zip(x1 - x0, y0 - y1, strict=True)]
    )
    order = np.argsort(degrees)
    weight = np.cumsum(np.hypot(x1 - x0, y1 - y0)[order])
    return float(degrees[order][np.searchsorted(weight, weight[-1] / 2)])


def _inpainted(case: Case, method: int) -> NDArray[np.uint8]:
    if case.region is None:
        raise ValueError(f"{case.case_id} has no region of a mark")
    return cv2.inpaint(case.pixels, case.region.astype(np.uint8), INPAINT_RADIUS, method)


def _to_nearest_axis(degrees: float) -> float:
    return (degrees + 45) % 90 - 45
