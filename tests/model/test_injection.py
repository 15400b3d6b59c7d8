import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.injection import AttentionInjection

CHANNELS, LABELS = 5, 3


def injection(reduce: str = "sum", spread: float = 1.0) -> AttentionInjection:
    layer = AttentionInjection(CHANNELS, LABELS, reduce).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, 0.0, spread)
    return layer


def pixel_by_pixel(layer: AttentionInjection, features: Tensor, labels: Tensor) -> Tensor:
    """Compute M' (B, 1, h, w) from its definition, one scalar at a time."""
    W, b = layer.embedding.weight, layer.embedding.bias
    A, a = layer.attention.weight[:, :, 0, 0], layer.attention.bias
    assert a is not None
    batch, channels, height, width = features.shape
    result = torch.zeros(batch, 1, height, width, dtype=torch.float64)
    for i in range(batch):
        one_hot = [1.0 if k == int(labels[i]) else 0.0 for k in range(LABELS)]
        H = [
            math.tanh(sum(float(W[c, k]) * one_hot[k] for k in range(LABELS)) + float(b[c]))
            for c in range(channels)
        ]
        for y in range(height):
            for x in range(width):
                gated = [float(features[i, c, y, x]) * H[c] for c in range(channels)]
                result[i, 0, y, x] = sum(
                    math.tanh(sum(float(A[out, c]) * gated[c] for c in range(channels)) + float(a[out]))
                    for out in range(channels)
                )
    return result


@settings(max_examples=8, deadline=None)
@given(
    labels=st.lists(st.integers(0, LABELS - 1), min_size=1, max_size=3),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
@torch.no_grad()
def test_3_equals_the_definition_computed_pixel_by_pixel(
    labels: list[int], height: int, width: int, seed: int
) -> None:
    """Compare in float64 (property 3)."""
    torch.manual_seed(seed)
    layer = injection()
    features = torch.randn(len(labels), CHANNELS, height, width, dtype=torch.float64)
    expected = pixel_by_pixel(layer, features, torch.tensor(labels))
    torch.testing.assert_close(
        layer.attention_map(features, torch.tensor(labels)), expected, rtol=0, atol=1e-12
    )
    torch.testing.assert_close(layer(features, torch.tensor(labels)), features * expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("reduce", "divisor"), [("sqrt", math.sqrt(CHANNELS)), ("mean", CHANNELS)])
@torch.no_grad()
def test_3_other_reductions_are_the_sum_divided(reduce: str, divisor: float) -> None:
    """sqrt and mean are the sum over sqrt(c') and c' (property 3)."""
    summed, reduced = injection("sum"), injection(reduce)
    reduced.load_state_dict(summed.state_dict())
    features, labels = torch.randn(2, CHANNELS, 3, 4, dtype=torch.float64), torch.tensor([0, 2])
    torch.testing.assert_close(
        reduced(features, labels), summed(features, labels) / divisor, rtol=0, atol=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(
    spread=st.floats(0, 50),
    size=st.floats(0, 1e6),
    label=st.integers(0, LABELS - 1),
    seed=st.integers(0, 2**31),
)
@torch.no_grad()
def test_4_the_map_never_exceeds_the_number_of_channels(
    spread: float, size: float, label: int, seed: int
) -> None:
    """|M'| < c' (property 4); a computed tanh rounds to 1 when it saturates, so equality can occur."""
    torch.manual_seed(seed)
    features = torch.randn(1, CHANNELS, 3, 3, dtype=torch.float64) * size
    attention = injection(spread=spread).attention_map(features, torch.tensor([label]))
    assert attention.abs().max() <= CHANNELS


@torch.no_grad()
def test_4_without_attention_weights_the_output_is_zero() -> None:
    """A = 0 and a = 0 (property 4)."""
    layer = injection()
    torch.nn.init.zeros_(layer.attention.weight)
    assert layer.attention.bias is not None
    torch.nn.init.zeros_(layer.attention.bias)
    assert not layer(torch.randn(2, CHANNELS, 3, 3, dtype=torch.float64), torch.tensor([0, 1])).any()


def test_under_autocast_the_map_is_computed_in_float32() -> None:
    layer = injection().float()
    features, labels = torch.randn(1, CHANNELS, 4, 4).bfloat16(), torch.tensor([1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer(features, labels)
    assert inside.dtype == torch.bfloat16
    assert torch.equal(inside, layer(features.float(), labels).bfloat16())


@pytest.mark.parametrize(("reduce", "scale"), [("sum", 1), ("sqrt", CHANNELS**-0.5)])
def test_the_map_s_rms_is_that_of_the_last_pass(reduce: str, scale: float) -> None:
    layer, features, labels = injection(reduce), torch.randn(2, CHANNELS, 3, 4).double(), torch.tensor([0, 2])
    assert layer.rms is None
    layer(torch.zeros_like(features), labels)
    layer(features, labels)
    expected = (scale * pixel_by_pixel(layer, features, labels)).square().mean().sqrt()
    assert torch.allclose(layer.rms, expected)
    assert not layer.rms.requires_grad
