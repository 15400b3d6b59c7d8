import pytest
import torch
from torch import nn

from model.baselines.unet import UNetGenerator
from model.config import GeneratorConfig, unet_depth
from model.errors import ConfigurationError
from model.generator import build_generator, parameter_count
from tests.model.builders import images, labels


def unet(**changes: object) -> UNetGenerator:
    settings = {"architecture": "unet", "width": 4, "n_downsamplings": 4}
    generator = build_generator(GeneratorConfig(0, 0, **{**settings, **changes}))  # type: ignore[arg-type]
    assert isinstance(generator, UNetGenerator)
    return generator


def pix2pix_count() -> int:
    """Return the number of parameters of U-Net-256, whose kernels are 4 x 4 and whose skips double the inputs on the
    way up.

    All features are normalised with a scale and an offset, except the outermost and the innermost on the way down and
    the image. Only the image has a bias.
    """
    down = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 512), (512, 512), (512, 512), (512, 512)]
    up = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64), (128, 3)]
    normalised = [outputs for _, outputs in down[1:-1] + up[:-1]]
    return sum(16 * inputs * outputs for inputs, outputs in down + up) + 2 * sum(normalised) + 3


def test_the_default_is_pix2pixs_u_net_256() -> None:
    network = unet(width=64, n_downsamplings=8)
    assert parameter_count(network) == pix2pix_count() == 54_413_955
    drops = [index for index, up in enumerate(network.up) if any(isinstance(part, nn.Dropout) for part in up)]
    assert drops == [4, 5, 6]  # of 0..7 from the outside; 7 is the innermost
    assert [part.p for up in network.up for part in up if isinstance(part, nn.Dropout)] == [0.5] * 3


@pytest.mark.parametrize(("side", "depth"), [(32, 5), (64, 6), (128, 7), (256, 8), (512, 8), (160, 5)])
def test_depth_follows_the_image_size(side: int, depth: int) -> None:
    assert unet_depth(side) == depth


@pytest.mark.parametrize("side", [16, 48, 100])
def test_sides_too_odd_for_a_u_net_are_refused(side: int) -> None:
    with pytest.raises(ConfigurationError, match="multiple of 32"):
        unet_depth(side)


@pytest.mark.parametrize("side", [32, 64])
@torch.no_grad()
def test_1_shapes_down_to_one_pixel(side: int) -> None:
    """Also in training, where normalising a single pixel would be an error (property 1)."""
    network = unet(width=2, n_downsamplings=unet_depth(side))
    made = network(images(1, side), labels(0), labels(0))
    assert made.shape == (1, 3, side, side)
    assert made.dtype == torch.float32
    assert made.abs().max() <= 1


def test_sides_that_cannot_be_halved_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"\(24, 24\) must be multiples of 16"):
        unet()(images(1, 24), labels(0), labels(0))


@torch.no_grad()
def test_dropout_acts_in_training_only() -> None:
    network = unet(n_downsamplings=6)
    arguments = (images(1, 64), labels(0), labels(0))
    assert not torch.equal(network(*arguments), network(*arguments))
    network.eval()
    assert torch.equal(network(*arguments), network(*arguments))


@torch.no_grad()
def test_6_a_batch_equals_its_samples() -> None:
    network, batch = unet().eval(), images(3, 32)
    whole = network(batch, labels(0, 1, 0), labels(0, 1, 2))
    single = torch.cat([network(image[None], labels(0), labels(0)) for image in batch])
    torch.testing.assert_close(whole, single, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_skips_carry_detail_past_the_bottleneck() -> None:
    """With the bottleneck silenced, the output still depends on the input."""
    network = unet().eval()
    network.up[-1] = nn.Sequential(*(part for part in network.up[-1]), nn.Threshold(1e9, 0.0))
    first, second = (network(images(1, 32, seed), labels(0), labels(0)) for seed in (0, 1))
    assert not torch.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("architecture", ["unet", "resnet_blur"])
@pytest.mark.parametrize("changes", [{"n_groups": 2}, {"n_types": 3}, {"head": "blend"}])
def test_baselines_take_no_labels_or_heads(architecture: str, changes: dict[str, object]) -> None:
    settings: dict[str, object] = {"n_groups": 0, "n_types": 0, "architecture": architecture, **changes}
    with pytest.raises(ConfigurationError, match="takes no labels"):
        GeneratorConfig(**settings)  # type: ignore[arg-type]
