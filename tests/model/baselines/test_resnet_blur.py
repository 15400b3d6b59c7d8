import pytest
import torch
import torch.nn.functional as F

from model.baselines.resnet_blur import BlurDownsample, BlurGenerator, BlurUpsample
from model.config import GeneratorConfig
from model.errors import ConfigurationError
from model.generator import build_generator, parameter_count
from tests.model.builders import images, labels


def blurred(width: int = 4, n_blocks: int = 2) -> BlurGenerator:
    config = GeneratorConfig(0, 0, width=width, n_blocks=n_blocks, n_before_eta=0, architecture="resnet_blur")
    generator = build_generator(config)
    assert isinstance(generator, BlurGenerator)
    return generator


def test_2_as_many_parameters_as_the_plain_resnet_9() -> None:
    """Blurring has no parameters, and convolutions of kernel 3 replace transposed ones of kernel 3 (property 2)."""
    assert parameter_count(blurred(64, 9)) == 11_378_179


@pytest.mark.parametrize("side", [16, 32, 44])
@torch.no_grad()
def test_1_shapes(side: int) -> None:
    made = blurred()(images(2, side), labels(0, 1), labels(0, 2))
    assert made.shape == (2, 3, side, side)
    assert made.abs().max() <= 1
    with pytest.raises(ConfigurationError, match="multiples of 4"):
        blurred()(images(1, side + 2), labels(0), labels(0))


@torch.no_grad()
def test_halving_smooths_with_three_taps() -> None:
    """One bright pixel spreads by [1, 2, 1]^2 / 16; a constant image stays constant."""
    impulse = torch.zeros(1, 2, 8, 8)
    impulse[0, 0, 4, 3] = 16.0
    halved = BlurDownsample(2)(impulse)
    assert halved.shape == (1, 2, 4, 4)
    # Row 4 is centred (weight 2/4); column 3 is between columns 2 and 4 (1/4 each).
    assert halved[0, 0, 2].tolist() == [0, 2, 2, 0]
    assert halved.sum().item() == 4
    assert torch.equal(BlurDownsample(2)(torch.ones(1, 2, 8, 8)), torch.ones(1, 2, 4, 4))


@torch.no_grad()
def test_doubling_is_the_four_tap_transposed_convolution() -> None:
    """[1, 3, 3, 1]^2 / 16 with repeated borders, written as a transposed convolution."""
    features = images(2, 6, seed=3)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    kernel = torch.outer(taps, taps).expand(3, 1, 4, 4)
    padded = F.pad(features, (1, 1, 1, 1), mode="replicate")
    expected = F.conv_transpose2d(padded, kernel, stride=2, padding=3, groups=3)
    torch.testing.assert_close(BlurUpsample()(features), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_taps_are_the_inner_features_of_the_same_pass() -> None:
    generator, image = blurred(4, 6), images(2, 16)
    made, taps = generator.translate(image)
    assert torch.equal(made, generator(image, labels(0, 0), labels(0, 0)))
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (3, 22, 22),
        (8, 16, 16),
        (16, 8, 8),
        (16, 4, 4),
        (16, 4, 4),
    ]
    assert [tap.shape[1] for tap in taps] == generator.tap_channels
    assert all(torch.equal(a, b) for a, b in zip(taps, generator.taps(image), strict=True))
    assert torch.equal(taps[0][:, :, 3:-3, 3:-3], image)
    # Taps are taken before normalisation: a bias shifts the tap and leaves the image unchanged.
    for index, down in enumerate(generator.down, 1):
        down.bias.add_(1.0)
        shifted, moved = generator.translate(image)
        torch.testing.assert_close(moved[index], taps[index] + 1, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(shifted, made, rtol=1e-3, atol=1e-4)
        down.bias.sub_(1.0)


@pytest.mark.parametrize(("blocks", "tapped"), [(9, [1, 5]), (6, [1, 5]), (3, [1, 3]), (1, [1]), (0, [])])
@torch.no_grad()
def test_residual_taps_fit_the_number_of_blocks(blocks: int, tapped: list[int]) -> None:
    generator = blurred(2, blocks)
    assert generator.tapped_blocks == tapped
    taps = generator.taps(images(1, 16))
    assert len(taps) == 3 + len(tapped) == len(generator.tap_channels)


def test_initial_weights_are_xaviers_with_gain_two_hundredths() -> None:
    weight = blurred(32, 1).blocks[0].body[0].weight  # 128 channels, 3 x 3
    expected = 0.02 * (2 / (128 * 9 + 128 * 9)) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=0.05)
