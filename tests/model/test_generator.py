from itertools import product

import pytest
import torch
from torch import Tensor, nn

from model.config import GeneratorConfig
from model.edits import apply_edit, identity_theta
from model.errors import ConfigurationError
from model.generator import Generator, parameter_count
from tests.model.builders import HEADS, SIDE, images, labels, small_config, unsettle

every_head = pytest.mark.parametrize("head", HEADS)


class PlainResNet(nn.Module):
    """CycleGAN's ResNet generator, with the layers of its paper's appendix and no conditions."""

    def __init__(self, width: int, n_blocks: int) -> None:
        super().__init__()

        def unit(layer: nn.Module, channels: int) -> list[nn.Module]:
            return [layer, nn.InstanceNorm2d(channels, affine=False, track_running_stats=False), nn.ReLU()]

        def block(channels: int) -> nn.Sequential:
            return nn.Sequential(
                nn.ReflectionPad2d(1),
                *unit(nn.Conv2d(channels, channels, 3), channels),
                nn.ReflectionPad2d(1),
                nn.Conv2d(channels, channels, 3),
                nn.InstanceNorm2d(channels),
            )

        self.down = nn.Sequential(
            nn.ReflectionPad2d(3),
            *unit(nn.Conv2d(3, width, 7), width),
            *unit(nn.Conv2d(width, 2 * width, 3, 2, 1), 2 * width),
            *unit(nn.Conv2d(2 * width, 4 * width, 3, 2, 1), 4 * width),
        )
        self.blocks = nn.ModuleList(block(4 * width) for _ in range(n_blocks))
        self.up = nn.Sequential(
            *unit(nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, output_padding=1), 2 * width),
            *unit(nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1), width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, 3, 7),
        )

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.down(image)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return torch.tanh(self.up(hidden))


@pytest.mark.parametrize("n_before_eta", [0, 4, 9])
@torch.no_grad()
def test_17_without_labels_it_is_the_plain_resnet_9(n_before_eta: int) -> None:
    """Use weights large enough that every layer matters (property 17)."""
    generator = Generator(GeneratorConfig(n_groups=0, n_types=0, width=4, n_before_eta=n_before_eta))
    plain = PlainResNet(width=4, n_blocks=9)
    for parameter in generator.parameters():
        nn.init.normal_(parameter, 0.0, 0.2)
    for target, source in zip(plain.parameters(), generator.parameters(), strict=True):
        target.copy_(source)
    image = images(2, 32)
    result = generator(image, labels(0, 1), labels(2, 0))
    torch.testing.assert_close(result, plain(image), rtol=0, atol=2e-5)
    assert result.std() > 0.1


@every_head
@pytest.mark.parametrize("side", [64, 128, 256])
@torch.no_grad()
def test_1_shapes(head: str, side: int) -> None:
    """Outputs have the same shape, RGB in [-1, 1], float32; so have the edit's parts (property 1)."""
    generator = unsettle(Generator(small_config(width=2, n_blocks=1, **HEADS[head])))
    image = images(1, side)
    result = generator(image, labels(1), labels(2))
    theta, content, matte = generator.edit(image, labels(1), labels(2))
    assert result.shape == content.shape == image.shape
    assert matte.shape == (1, 1, side, side)
    assert theta.shape == (1, 2, 3)
    assert {value.dtype for value in (result, theta, content, matte)} == {torch.float32}
    assert result.abs().max() <= 1
    assert content.abs().max() <= 1
    assert 0 <= matte.min() <= matte.max() <= 1


@torch.no_grad()
def test_sides_that_cannot_be_halved_twice_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="multiples of 4"):
        Generator(small_config())(torch.zeros(1, 3, 16, 18), labels(0), labels(0))


@pytest.mark.parametrize(
    ("groups", "types", "count"), [(0, 0, 11_378_179), (2, 3, 11_511_555)], ids=["plain", "conditional"]
)
def test_2_parameter_counts(groups: int, types: int, count: int) -> None:
    """Use the paper's width and depth (property 2)."""
    assert parameter_count(Generator(GeneratorConfig(groups, types))) == count


@every_head
@torch.no_grad()
def test_5_both_labels_matter(head: str) -> None:
    """Another group or another type gives another image (property 5)."""
    generator = unsettle(Generator(small_config(**HEADS[head])))
    image = images(1, 32)
    results = [generator(image, labels(g), labels(t)) for g, t in product(range(2), range(3))]
    for i, first in enumerate(results):
        for second in results[:i]:
            assert (first - second).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("groups", "types", "removed"), [(0, 3, "group"), (2, 0, "type"), (0, 0, "group"), (0, 0, "type")]
)
@torch.no_grad()
def test_5_removed_labels_do_not(groups: int, types: int, removed: str) -> None:
    """The ablations ignore the label that they lack, even one outside every vocabulary (property 5)."""
    generator = Generator(small_config(n_groups=groups, n_types=types))
    image = images(1)
    usual = generator(image, labels(0), labels(0))
    other = (labels(99), labels(0)) if removed == "group" else (labels(0), labels(99))
    assert torch.equal(generator(image, *other), usual)
    assert parameter_count(generator) < parameter_count(Generator(small_config()))


@every_head
@torch.no_grad()
def test_6_a_batch_equals_its_samples(head: str) -> None:
    """Labels are mixed (property 6)."""
    generator = unsettle(Generator(small_config(**HEADS[head])))
    batch, groups, types = images(4, 32), labels(0, 1, 0, 1), labels(0, 2, 1, 0)
    singles = [generator(batch[i : i + 1], groups[i : i + 1], types[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(generator(batch, groups, types), torch.cat(singles), rtol=0, atol=1e-4)


@every_head
def test_7_every_parameter_learns_except_absent_labels(head: str) -> None:
    """Gradients are finite, and exactly zero in the embedding columns of labels that did not occur (property 7)."""
    generator = Generator(small_config(**HEADS[head]))
    image = images(2, 32)
    groups, types = labels(1, 1), labels(2, 0)
    (generator(image, groups, types) - image.flip(-1)).abs().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # The geometry's last layer starts at zero, so the layers before it get a gradient only after the first update.
        assert parameter.grad.any() or "geometry.convolutions" in name, name
    assert generator.inject_group is not None
    assert generator.inject_type is not None
    for injection, present in ((generator.inject_group, {1}), (generator.inject_type, {0, 2})):
        gradient = injection.embedding.weight.grad
        assert gradient is not None
        columns = {label for label in range(gradient.shape[1]) if gradient[:, label].any()}
        assert columns == present


@pytest.mark.parametrize("n_before_eta", [0, 9])
def test_8_both_injections_may_be_at_either_end(n_before_eta: int) -> None:
    """The extreme splits run, and the blocks are on the sides that the split gives (property 8)."""
    generator = Generator(small_config(n_blocks=9, n_before_eta=n_before_eta))
    generator(images(1), labels(1), labels(2)).mean().backward()
    assert (len(generator.blocks_before), len(generator.blocks_after)) == (n_before_eta, 9 - n_before_eta)
    assert generator.inject_type is not None
    gradient = generator.inject_type.embedding.weight.grad
    assert gradient is not None
    assert gradient.any()


@torch.no_grad()
def test_initial_weights() -> None:
    """Weights are N(0, 0.02) and biases zero, also in injections; 'framework' leaves the injections alone."""
    normal = Generator(small_config(width=8, inject_init="normal"))
    framework = Generator(small_config(width=8, inject_init="framework"))
    for generator, injected in ((normal, "0.02"), (framework, "framework")):
        for name, parameter in generator.named_parameters():
            if "inject" in name and injected == "framework":
                # torch's own weights: uniform within 1/sqrt(inputs), here 3 labels or 32 channels.
                assert parameter.abs().max() > 0.1, name
            elif name.endswith("bias"):
                assert not parameter.any(), name
            elif parameter.numel() > 500:
                assert parameter.std().item() == pytest.approx(0.02, rel=0.15), name


@every_head
@torch.no_grad()
def test_applying_the_edit_equals_translating(head: str) -> None:
    """At the training size, `edit` gives the same result as `forward`."""
    generator = unsettle(Generator(small_config(**HEADS[head])))
    image, groups, types = images(4, 32), labels(0, 1, 0, 1), labels(0, 2, 1, 2)
    edited = apply_edit(image, generator.edit(image, groups, types))
    torch.testing.assert_close(edited, generator(image, groups, types), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_direct_head_replaces_every_pixel() -> None:
    generator = unsettle(Generator(small_config(**HEADS["direct geometry"])))
    theta, _, matte = generator.edit(images(1, 32), labels(1), labels(2))
    assert (matte == 1).all()
    assert torch.equal(theta, identity_theta(1))


@torch.no_grad()
def test_geometry_starts_as_the_identity() -> None:
    generator = Generator(small_config(**HEADS["geometry"]))
    theta, _, _ = generator.edit(images(2, 32), labels(0, 1), labels(0, 2))
    assert torch.equal(theta, identity_theta(2))


@pytest.mark.parametrize("head", ["geometry", "direct geometry"])
def test_geometry_learns_from_the_first_step(head: str) -> None:
    """The linear layer is zero but has a gradient."""
    generator = Generator(small_config(**HEADS[head]))
    image = images(1, 32)
    (generator(image, labels(1), labels(2)) - image.flip(-1)).abs().mean().backward()
    assert generator.geometry is not None
    gradient = generator.geometry.linear.weight.grad
    assert gradient is not None
    assert gradient.any()


def test_one_update_does_not_throw_the_product_out_of_the_frame() -> None:
    """Adam moves thousands of weights by the learning rate at once; their sum must stay a small movement."""
    generator = Generator(small_config(width=16, **HEADS["geometry"]))
    arguments = images(2, 32), labels(1, 1), labels(2, 2)
    optimizer = torch.optim.Adam(generator.parameters(), 1e-3)
    (generator(*arguments) - arguments[0].flip(-1)).abs().mean().backward()
    optimizer.step()
    moved = (generator.edit(*arguments).theta - identity_theta(2)).abs().max()
    assert 0 < moved < 0.1


@torch.no_grad()
def test_no_map_mirrors_the_product() -> None:
    """The diagonal does not turn negative for any weights of the head."""
    generator = Generator(small_config(**HEADS["geometry"]))
    assert generator.geometry is not None
    nn.init.constant_(generator.geometry.linear.bias, -1e6)
    theta = generator.edit(images(1, 32), labels(1), labels(2)).theta
    assert theta[0].diagonal().min() >= 0
    assert (theta - identity_theta(1)).abs().max() <= 1


@torch.no_grad()
def test_only_geometric_groups_move() -> None:
    generator = unsettle(Generator(small_config(**HEADS["geometry"])))
    theta, _, _ = generator.edit(images(4, 32), labels(0, 1, 1, 0), labels(0, 2, 2, 1))
    moved = (theta != identity_theta(4)).flatten(1).any(dim=1)
    assert moved.tolist() == [False, True, True, False]
    assert not torch.equal(theta[1], theta[2])


def test_a_batch_without_movable_groups_gives_the_geometry_zero_gradients() -> None:
    generator = unsettle(Generator(small_config(**HEADS["geometry"])))
    generator(images(1, 32), labels(0), labels(0)).mean().backward()
    assert generator.geometry is not None
    assert all(p.grad is None or not p.grad.any() for p in generator.geometry.parameters())


@every_head
@torch.no_grad()
def test_bfloat16_gives_nearly_the_same_float32_image(head: str) -> None:
    """At initialisation no layer amplifies; the transform differs only by the rounding of its features."""
    generator = Generator(small_config(inject_init="normal", **HEADS[head]))
    image, groups, types = images(2, 32), labels(0, 1), labels(0, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = generator(image, groups, types)
        edit = generator.edit(image, groups, types)
    assert {value.dtype for value in (low, *edit)} == {torch.float32}
    torch.testing.assert_close(low, generator(image, groups, types), rtol=0, atol=0.05)


def test_labels_outside_the_vocabulary_are_errors() -> None:
    generator = Generator(small_config())
    with pytest.raises(IndexError):
        generator(torch.zeros(1, 3, SIDE, SIDE), labels(0), labels(3))
