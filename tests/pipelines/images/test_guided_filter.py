"""The models against one least-squares problem per window, as the paper writes it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.images.guided_filter import colour_models

SIDES = st.one_of(st.integers(1, 7), st.just(16))


def window(pixel: tuple[int, int], radius: int) -> tuple[slice, ...]:
    return tuple(slice(max(0, at - radius), at + radius + 1) for at in pixel)


@settings(max_examples=30, deadline=None)
@given(
    SIDES, SIDES, st.integers(1, 3), st.floats(1e-4, 1), st.sampled_from([0.02, 0.7, 1]), st.integers(0, 999)
)
def test_models_are_windows_least_squares_averaged(
    height: int, width: int, radius: int, ridge: float, share_needed: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    guide, values = random.uniform(-1, 1, (height, width, 3)), random.uniform(0, 1, (height, width, 2))
    weights = random.uniform(0.1, 1, (height, width))
    own, totals = np.empty((height, width, 2, 4)), np.empty((height, width))
    for pixel in np.ndindex(height, width):
        near = window(pixel, radius)
        share = weights[near].ravel()
        totals[pixel] = share.sum()
        colours, wanted = (planes[near].reshape(-1, planes.shape[-1]).T for planes in (guide, values))
        mean, mean_wanted = (np.average(part, axis=1, weights=share) for part in (colours, wanted))
        off, off_wanted = colours - mean[:, None], wanted - mean_wanted[:, None]
        variance = (share * off) @ off.T / share.sum() + ridge * np.eye(3)
        slopes = np.linalg.solve(variance, (share * off) @ off_wanted.T / share.sum()).T
        own[pixel] = np.column_stack([slopes, mean_wanted - slopes @ mean])
    needed = random.random((height, width)) < share_needed
    models = colour_models(guide, values, weights, radius, ridge, needed)
    for pixel in np.ndindex(height, width):
        if not needed[pixel]:
            assert not models[pixel].any()
            continue
        near = window(pixel, radius)
        expected = (own[near] * totals[near][..., None, None]).sum(axis=(0, 1)) / totals[near].sum()
        np.testing.assert_allclose(models[pixel], expected, rtol=1e-6, atol=1e-6)
