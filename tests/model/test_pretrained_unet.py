"""Tests of the generator's properties that apply to a network over a pretrained encoder, too."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from model.config import GeneratorConfig
from model.edits import apply_edit
from model.encoder import Encoder
from model.errors import ConfigurationError
from model.generator import build_generator
from model.injection import AttentionInjection
from model.pretrained_unet import PretrainedUNet
from model.recipes import build_method, method_config

CONFIG = GeneratorConfig(
    n_groups=2,
    n_types=3,
    width=8,
    architecture="pretrained_unet",
    head="blend",
    geometry="affine",
    geometric_groups=(1,),
    reduce="sqrt",
    inject_init="wide",
)
GROUPS, TYPES = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])


def network(config: GeneratorConfig = CONFIG, seed: int = 0) -> PretrainedUNet:
    torch.manual_seed(seed)
    generator = build_generator(config)
    assert isinstance(generator, PretrainedUNet)
    return generator


def images(count: int = 3, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def with_statistics(generator: PretrainedUNet) -> PretrainedUNet:
    """Change the norms' running statistics, give the content a change and let the geometry move."""
    with torch.no_grad():
        generator.head.weight.normal_()
        for layer in generator.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
                layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
                layer.weight.uniform_(0.5, 1.5)
        if generator.geometry is not None:
            generator.geometry.linear.weight.normal_(0, 0.5)
    return generator.eval()


@pytest.mark.parametrize("side", [64, 96, 128])
@torch.no_grad()
def test_images_keep_their_shape_and_range(side: int) -> None:
    made = network().eval()(images(side=side), GROUPS, TYPES)
    assert made.shape == (3, 3, side, side)
    assert made.dtype == torch.float32
    assert made.abs().max() <= 1


def test_sides_that_cannot_be_halved_five_times_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="multiples of 32"):
        network()(images(side=48), GROUPS, TYPES)


@torch.no_grad()
def test_labels_change_the_output_and_removed_ones_do_not() -> None:
    generator = with_statistics(network())
    x = images()[:1].expand(2, -1, -1, -1)
    by_group = generator(x, torch.tensor([0, 1]), torch.tensor([0, 0]))
    by_type = generator(x, torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert (by_group[0] - by_group[1]).abs().mean() > 1e-4
    assert (by_type[0] - by_type[1]).abs().mean() > 1e-4
    plain = with_statistics(
        network(replace(CONFIG, n_groups=0, n_types=0, geometry="none", geometric_groups=()))
    )
    assert not [part for part in plain.modules() if isinstance(part, AttentionInjection)]
    unlabelled = plain(x, torch.tensor([0, 1]), torch.tensor([0, 2]))
    assert torch.equal(unlabelled[0], unlabelled[1])


@torch.no_grad()
def test_a_batch_equals_its_single_images() -> None:
    generator = with_statistics(network())
    x = images()
    whole = generator(x, GROUPS, TYPES)
    single = torch.cat([generator(x[i : i + 1], GROUPS[i : i + 1], TYPES[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(whole, single, atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_edit_equals_forward() -> None:
    generator, x = with_statistics(network()), images()
    edit = generator.edit(x, GROUPS, TYPES)
    torch.testing.assert_close(apply_edit(x, edit), generator(x, GROUPS, TYPES))
    assert (edit.theta[2] - torch.eye(2, 3)).abs().max() > 1e-3
    # A group that is not geometric does not move by even a fraction of a pixel.
    assert torch.equal(edit.theta[0], torch.eye(2, 3))


@torch.no_grad()
def test_a_fresh_network_paints_the_image_itself() -> None:
    x = images()
    answer = network(replace(CONFIG, geometry="none", geometric_groups=())).eval().answer(x, GROUPS, TYPES)
    assert (answer.content - x).abs().max() < 0.5 / 127.5  # half a level of 255


@torch.no_grad()
def test_pixels_with_a_zero_matte_stay() -> None:
    generator = network().eval()
    nn.init.zeros_(generator.head.weight)
    nn.init.constant_(generator.head.bias, -200.0)  # type: ignore[arg-type]
    x = images()
    assert torch.equal(generator(x, torch.zeros(3, dtype=torch.long), TYPES), x)


def test_all_parameters_get_finite_gradients_and_absent_labels_none() -> None:
    generator = network().train()
    generator(images(), torch.zeros(3, dtype=torch.long), torch.tensor([0, 1, 1])).square().mean().backward()
    assert generator.inject_type is not None
    column = generator.inject_type.embedding.weight.grad
    assert column is not None
    assert column[:, 2].abs().max() == 0
    assert column[:, 0].abs().max() > 0
    without = [
        name
        for name, value in generator.named_parameters()
        if not name.startswith("geometry") and (value.grad is None or not value.grad.isfinite().all())
    ]
    assert not without


def test_the_geometry_learns_if_its_group_moves() -> None:
    generator = network().train()
    generator(images(), torch.ones(3, dtype=torch.long), TYPES).square().mean().backward()
    assert generator.geometry is not None
    assert generator.geometry.linear.weight.grad is not None
    assert generator.geometry.linear.weight.grad.abs().max() > 0


def test_frozen_norms_stay_unchanged_and_others_move() -> None:
    frozen, free = network().train(), network(replace(CONFIG, freeze_norms=False)).train()
    for generator, moves in ((frozen, False), (free, True)):
        before = copy.deepcopy(generator.encoder.state_dict())
        generator(images(), GROUPS, TYPES)
        statistics = [name for name in before if "running_mean" in name]
        changed = [not torch.equal(before[name], generator.encoder.state_dict()[name]) for name in statistics]
        assert statistics
        assert all(changed) if moves else not any(changed)


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "resnet18"])
@torch.no_grad()
def test_folded_norms_change_nothing(encoder: str) -> None:
    generator = with_statistics(network(replace(CONFIG, encoder=encoder)))
    folded = generator.for_inference()
    left = [layer for layer in folded.encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert not left
    torch.testing.assert_close(
        folded(images(), GROUPS, TYPES), generator(images(), GROUPS, TYPES), atol=1e-4, rtol=0
    )


def test_an_encoder_that_does_not_exist_or_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"backbone efficientdings: timm has none"):
        network(replace(CONFIG, encoder="efficientdings"))
    with pytest.raises(ConfigurationError, match=r"backbone vit_tiny_patch16_224: "):
        network(replace(CONFIG, encoder="vit_tiny_patch16_224"))


def test_weights_of_another_network_are_refused_by_name() -> None:
    generator = network()
    state = generator.encoder.backbone.state_dict()
    first = next(iter(state))
    with pytest.raises(
        ConfigurationError, match=f"lack 1 of tf_efficientnet_lite0's tensors, such as .*{first}"
    ):
        generator.encoder.load_pretrained({name: value for name, value in state.items() if name != first})
    with pytest.raises(ConfigurationError, match=f"other shapes, such as .*{first}"):
        generator.encoder.load_pretrained({**state, first: torch.zeros(1)})
    generator.encoder.load_pretrained({**state, "classifier.weight": torch.zeros(3)})


@pytest.mark.parametrize(
    "recipe", ["proposed", "no_group", "no_labels", "paired_only", "pix2pix", "cyclegan"]
)
def test_every_recipe_but_monce_takes_it(recipe: str) -> None:
    config = method_config(
        recipe,
        n_groups=2,
        n_types=3,
        image_size=64,
        generator={"architecture": "pretrained_unet", "width": 8},
    )
    method = build_method(config)
    assert isinstance(method.generator, PretrainedUNet)
    assert config.generator.head == "blend"
    slow = {id(parameter) for parameter in method.encoder_parameters()}
    assert slow
    assert slow < {id(parameter) for parameter in method.generator_parameters()}
    both = recipe != "pix2pix"
    assert len(method.pretrained()) == 1 + both


def test_monce_needs_taps_that_it_does_not_have() -> None:
    with pytest.raises(ConfigurationError, match="architecture is 'pretrained_unet'; use one of resnet_blur"):
        method_config("monce", n_groups=2, n_types=3, generator={"architecture": "pretrained_unet"})


def test_a_training_on_a_cpu_computes_the_encoder_in_float32_and_a_correction_as_asked() -> None:
    encoder = Encoder("tf_efficientnet_lite0", freeze_norms=True)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    exact = encoder(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trained = encoder(image)
        with torch.inference_mode():
            corrected = encoder(image)
    assert {value.dtype for value in trained.values()} == {torch.float32}
    assert {value.dtype for value in corrected.values()} == {torch.bfloat16}
    torch.testing.assert_close(trained[32], exact[32], rtol=0.1, atol=0.1)
