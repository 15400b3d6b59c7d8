import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.images.unmixing import average, unmixed

levels = st.integers(0, 255)


@given(share=st.floats(0.01, 0.99), product=levels, background=levels)
def test_a_mixture_of_nearby_colours_is_unmixed(share: float, product: int, background: int) -> None:
    a, f, b = (np.full((2, 3), value, np.float32) for value in (share, product, background))
    own = unmixed(a * f + (1 - a) * b, a, f, b)
    np.testing.assert_allclose(own, f, atol=0.01)
    tensors = [torch.from_numpy(part) for part in (a * f + (1 - a) * b, a, f, b)]
    np.testing.assert_array_equal(unmixed(*tensors).numpy(), own)


@given(share=st.floats(0, 1), noise=st.floats(-50, 50))
def test_noise_is_not_amplified(share: float, noise: float) -> None:
    a, f, b, x = (np.full((1, 3), value, np.float32) for value in (share, 200, 40, 90))
    change = unmixed(x + np.float32(noise), a, f, b) - unmixed(x, a, f, b)
    assert np.abs(change).max() <= abs(noise) * share + 0.01


def test_averages_are_of_one_side() -> None:
    share = np.zeros((20, 20), np.float32)
    share[:, :10] = 1
    colours = np.where(share[..., None] > 0, np.float32(100), np.float32(20)).repeat(3, 2)
    product = average(colours, share, 5)
    background = average(colours, 1 - share, 5)
    np.testing.assert_allclose(product[:, :12], 100, atol=1)
    np.testing.assert_allclose(background[:, 8:], 20, atol=1)
