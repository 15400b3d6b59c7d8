import pytest
import torch
from torch import Tensor

from model.layers import BatchNorm, InstanceNorm
from tests.model.builders import images

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def normalised(values: Tensor, over: tuple[int, ...]) -> Tensor:
    """Normalise by definition, in float64."""
    wide = values.double()
    variance = wide.var(over, keepdim=True, unbiased=False)
    return (wide - wide.mean(over, keepdim=True)) / (variance + 1e-5).sqrt()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("inputs", LAYOUTS)
@pytest.mark.parametrize("gradients", LAYOUTS)
@pytest.mark.parametrize("kind", ["instance", "batch", "batch in evaluation"])
def test_normalisations_and_their_gradients_by_definition_in_any_layout(
    kind: str, inputs: torch.memory_format, gradients: torch.memory_format, count: int
) -> None:
    layer = InstanceNorm(3) if kind == "instance" else BatchNorm(3)
    layer.train(kind != "batch in evaluation")
    over = (0, 2, 3) if kind == "batch" else (2, 3)
    values = images(count).contiguous(memory_format=inputs).requires_grad_()
    upstream = images(count, seed=1).contiguous(memory_format=gradients)
    expected, actual = normalised(values, over), layer(values)
    if isinstance(layer, BatchNorm):
        weight, bias = (p[None, :, None, None] for p in (layer.weight, layer.bias))
        expected = expected * weight + bias
    torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-5)
    wanted = torch.autograd.grad(expected, values, upstream.double(), retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(actual, values, upstream)[0], wanted, rtol=1e-3, atol=1e-4)


def test_batch_norm_starts_as_pix2pixs() -> None:
    layer = BatchNorm(20_000)
    assert layer.weight.mean().item() == pytest.approx(1, abs=0.001)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not layer.bias.any()
    assert [name for name, _ in layer.named_buffers()] == []


@torch.no_grad()
def test_in_evaluation_an_image_does_not_depend_on_its_batch() -> None:
    """Its answer is that of training on it alone, because Pix2Pix's test takes one image at a time."""
    layer, batch = BatchNorm(3), images(3)
    alone = torch.cat([layer(image[None]) for image in batch])
    torch.testing.assert_close(layer.eval()(batch), alone)
    assert not torch.allclose(layer.train()(batch), alone, atol=1e-3)
