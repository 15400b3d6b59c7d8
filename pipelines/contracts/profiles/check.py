"""Checks a corrected image against a marketplace's rules."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.contracts.profiles.profile import Bounds, Profile

#: In a picture on white, pixels with all channels at least this high are background.
_BACKGROUND = 245
#: Pieces that are not white, but smaller than this share of the picture, are dirt and not the product.
_SPECK = 0.0005
#: Share of the border or of a corner that may be below white.
_WHITE_TOLERANCE = 0.01
_RECOMMENDED = " (recommended)"


def profile_issues(
    profile: Profile, image: NDArray[np.uint8], format: str, size: int, not_white: float
) -> list[str]:
    """Return the rules that `image` uint8 (H,W,3), encoded as `format` in `size` bytes, violates.

    not_white: share of the border and corners below white, see `pipelines.correction.deliver.white`. Each text begins
    with the rule's name and has the figure and the bound: "fill_share 0.62 < 0.85"; `rule_of` extracts the name.
    """
    height, width = image.shape[:2]
    issues = []
    if format not in profile.formats:
        issues.append(f"format {format} is not {' or '.join(profile.formats)}")
    issues += _within("longest_side", max(height, width), profile.longest_side, 0)
    issues += _within("shortest_side", min(height, width), profile.shortest_side, 0)
    issues += _within("pixels", height * width, Bounds(maximum=profile.max_pixels), 0)
    issues += _within("bytes", size, Bounds(maximum=profile.max_bytes), 0)
    white = not_white <= _WHITE_TOLERANCE
    if profile.white_background and not white:
        issues.append(f"background {not_white:.2f} of a corner or the border is not white")
    if profile.fill_share != Bounds():
        # If the background is not white, the product's extent is unknown here.
        issues += _within("fill_share", fill_share(image), profile.fill_share, 2) if white else []
    return issues


def rule_of(issue: str) -> str:
    """Return the name under which an issue is counted: the rule's; a mere recommendation counts separately."""
    return issue.split()[0] + (_RECOMMENDED if issue.endswith(_RECOMMENDED) else "")


def fill_share(image: NDArray[np.uint8]) -> float:
    """Return the share of the frame that a product on white fills, in [0, 1], along the side where it fills more.

    It compares extents, because areas would differ between a belt and a bag more than between small and large ones.
    """
    pieces, count = ndimage.label(image.min(axis=2) < _BACKGROUND)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    areas[0] = 0
    product = (areas >= _SPECK * pieces.size)[pieces] & (pieces > 0)
    if not product.any():
        return 0.0
    extents = [np.flatnonzero(product.any(axis=axis)) for axis in (1, 0)]
    return max(
        (int(lines[-1]) - int(lines[0]) + 1) / side
        for lines, side in zip(extents, image.shape[:2], strict=True)
    )


def _within(rule: str, value: float, bounds: Bounds, digits: int) -> Iterator[str]:
    def number(figure: float) -> str:
        return f"{figure:.{digits}f}"

    if bounds.minimum is not None and value < bounds.minimum:
        yield f"{rule} {number(value)} < {number(bounds.minimum)}"
    elif bounds.recommended is not None and value < bounds.recommended:
        yield f"{rule} {number(value)} < {number(bounds.recommended)}{_RECOMMENDED}"
    if bounds.maximum is not None and value > bounds.maximum:
        yield f"{rule} {number(value)} > {number(bounds.maximum)}"
