"""The compiled painting, against its rule written down for all pixels at once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.inference.edits import edges as soft
from pipelines.inference.edits.edges import soft_edges
from pipelines.inference.edits.guided import CONTENT, FLATTENED, HIGH, LOW, MATTE, fitted
from pipelines.inference.edits.paint import paint

Array = NDArray[np.float32]

SIDES = st.one_of(st.integers(1, 30), st.sampled_from([1, 97]))


def enlarged(planes: Array, size: tuple[int, ...]) -> Array:
    """Return planes (h,w,P) at every pixel of an upload, interpolated bilinearly: (H,W,P)."""
    for axis in (0, 1):
        count = planes.shape[axis]
        position = ((np.arange(size[axis]) + 0.5) * count / size[axis] - 0.5).clip(0, count - 1)
        first = np.floor(position).astype(int)
        share = np.expand_dims(position - first, tuple({0, 1, 2} - {axis})).astype(np.float32)
        one, other = (np.take(planes, at, axis) for at in (first, np.minimum(first + 1, count - 1)))
        planes = one + (other - one) * share
    return planes


def by_the_rule(image: NDArray[np.uint8], models: Array, edges: Array | None) -> tuple[Array, Array]:
    """Return what `paint` returns, in levels that are not rounded."""
    at = enlarged(models, image.shape)
    pixel = image / np.float32(127.5) - 1
    low, high = at[..., LOW], at[..., HIGH]
    span = np.maximum(high - low, 1e-6)
    value = (at[..., MATTE : MATTE + 3] * pixel).sum(axis=2) + at[..., MATTE + 3]
    share = (((value - low) / span - FLATTENED) / (1 - 2 * FLATTENED)).clip(0, 1)
    levels = np.rint(255 * np.where(high - low <= 1e-6, low, low + share * span))
    painted = (levels / 255)[..., None]
    content = np.stack(
        [
            (at[..., start : start + 3] * pixel).sum(axis=2) + at[..., start + 3]
            for start in range(CONTENT, MATTE, 4)
        ],
        axis=2,
    ).clip(-1, 1)
    if edges is not None:
        pixel, content = unmixed(enlarged(edges, image.shape), painted, pixel, content)
    result = np.where(painted > 0, (pixel + (content - pixel) * painted + 1) * 127.5, image)
    return result.clip(0, 255), levels


def unmixed(at: Array, painted: Array, pixel: Array, content: Array) -> tuple[Array, Array]:
    product, background, paint_nearby = (
        at[..., start : start + 3] for start in (soft.PRODUCT, soft.BACKGROUND, soft.PAINT)
    )
    distance = product - background
    wrong = ((pixel - background - (1 - painted) * distance) * distance).sum(axis=2, keepdims=True)
    apart = (distance**2).sum(axis=2, keepdims=True) + soft.ALIKE
    belief = at[..., soft.BELIEF, None] * np.exp(-((wrong / apart / soft.DISAGREED) ** 2))
    belief = np.where((painted > 0) & (painted < 1), belief, 0)
    own = product + (1 - painted) * (pixel - (1 - painted) * product - painted * background)
    return pixel + belief * (own.clip(-1, 1) - pixel), content + belief * (paint_nearby - content)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(2, 14), st.integers(2, 14), SIDES, SIDES, st.integers(0, 2**31), st.booleans(), st.booleans()
)
def test_every_pixel_follows_the_rule(
    height: int, width: int, rows: int, columns: int, seed: int, one_colour: bool, is_background: bool
) -> None:
    random = np.random.default_rng(seed)
    guide = random.uniform(-1, 1, (height, width, 3)).astype(np.float32)
    # Patches that paint nothing, everything, and a share: the kernel takes another way for each.
    coarse = random.choice([0, 0, 1, 1, 0.4], (height // 4 + 1, width // 4 + 1)).astype(np.float32)
    matte = np.repeat(np.repeat(coarse, 4, axis=0), 4, axis=1)[:height, :width].copy()
    content = np.ones_like(guide) if one_colour else random.uniform(-1, 1, guide.shape).astype(np.float32)
    content[:, : width // 2] = content[0, 0]
    image = random.integers(0, 256, (rows, columns, 3), np.uint8)
    models = fitted(guide, content, matte, (rows, columns))
    edges = soft_edges(guide, content, matte) if is_background else None
    result, shares = paint(image, models, edges)
    expected, levels = by_the_rule(image, models, edges)
    assert np.abs(shares - levels).max() <= 1
    # Where the matte's rounding fell to the other side, a pixel may move by a level more.
    alike = shares == levels
    assert np.abs(result - expected)[alike].max(initial=0) <= 0.6
    assert np.abs(result - expected).max() <= 1.6
    assert np.array_equal(result[shares == 0], image[shares == 0])


def test_an_edit_that_paints_all_in_one_colour_leaves_nothing_of_the_upload() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 41, 3), np.uint8)
    content = np.full((8, 8, 3), 0.5, np.float32)
    models = fitted(np.zeros_like(content), content, np.ones((8, 8), np.float32), (50, 41))
    result, shares = paint(image, models, None)
    assert (result == 191).all()
    assert (shares == 255).all()
