import io
from pathlib import Path
from typing import Any

import pytest
import torch

from model.bundle import load_bundle, save_bundle
from model.config import DiscriminatorConfig, GeneratorConfig
from model.edits import apply_edit
from model.errors import ConfigurationError
from model.recipes import RECIPES, MethodConfig, build_method, method_config
from model.semi_paired import SemiPairedObjective
from model.training_step import OptimizerConfig, TrainingStep
from tests.model.builders import small_batch

SMALL = {"width": 4, "n_blocks": 2}
#: Networks for images of 16 pixels, for recipes that differ from SMALL.
SMALL_OF: dict[str, dict[str, Any]] = {"pix2pix": {"width": 4, "n_downsamplings": 4}}


def small(recipe: str, **parts: Any) -> MethodConfig:
    """Return the recipe with networks small enough for images of 16 pixels."""
    return config(recipe, generator=SMALL_OF.get(recipe, SMALL), discriminator={"n_layers": 1}, **parts)


def config(recipe: str, **parts: Any) -> MethodConfig:
    return method_config(recipe, n_groups=2, n_types=3, **parts)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_builds_and_has_losses_of_its_own(recipe: str) -> None:
    settings = small(recipe)
    method = build_method(settings)
    batch = small_batch((1, 1), (1, 1))
    losses, fakes = method.generator_losses(batch)
    assert losses["total"].isfinite()
    assert losses["total"].requires_grad
    assert fakes.y.shape == batch.x.shape
    assert not any(image is not None and image.requires_grad for image in fakes[:3])
    assert fakes.taps == ()
    assert method.generator.config == settings.generator
    assert (method.uses_pairs, method.uses_unpaired) == (settings.uses_pairs, settings.uses_unpaired)


@pytest.mark.parametrize(
    ("recipe", "groups", "types"),
    [("cyclegan", 0, 0), ("proposed", 2, 3), ("no_group", 0, 3), ("no_labels", 0, 0), ("paired_only", 2, 3)],
)
def test_ablations_remove_labels(recipe: str, groups: int, types: int) -> None:
    settings = config(recipe)
    assert (settings.generator.n_groups, settings.generator.n_types) == (groups, types)
    assert settings.discriminator == DiscriminatorConfig()
    assert settings.generator == GeneratorConfig(groups, types)


def test_paired_only_learns_from_pairs_alone_without_a_cycle() -> None:
    """This is "w/o unpaired": u counts as 0 even if a batch sets it."""
    settings = small("paired_only")
    assert (settings.uses_pairs, settings.uses_unpaired) == (True, False)
    assert config("proposed").uses_unpaired
    losses, _ = build_method(settings).generator_losses(small_batch((1, 1), (1, 1)))
    assert losses["cycle"].item() == losses["identity"].item() == 0
    assert losses["reconstruction"].item() > 0


def test_other_settings_follow_the_overrides() -> None:
    settings = config("proposed", generator={"width": 32, "n_blocks": 6})
    assert (settings.generator.n_before_eta, settings.discriminator.width) == (3, 32)
    explicit = config("proposed", generator={"width": 32, "n_before_eta": 0}, discriminator={"width": 8})
    assert (explicit.generator.n_before_eta, explicit.discriminator.width) == (0, 8)


@pytest.mark.parametrize(
    ("recipe", "parts", "named"),
    [
        ("proposed", {"generator": {"n_groups": 1}}, "proposed has no use for n_groups"),
        ("no_group", {"generator": {"geometry": "affine"}}, "no_group has no use for geometry"),
        ("no_labels", {"generator": {"reduce": "mean", "inject_init": "normal"}}, "inject_init, reduce"),
        ("paired_only", {"objective": {"cycle": 1.0}}, "paired_only has no use for cycle"),
        ("proposed", {"objective": {"use_unpaired": False}}, "has no use for use_unpaired"),
        ("proposed", {"discriminator": {"depth": 3}}, "has no use for depth"),
        ("proposed", {"objective": {"cycle": -1.0}}, "cycle must not be negative"),
        ("proposed", {"generator": {"architecture": "unet"}}, "recipe proposed: architecture is 'unet'"),
        ("no_labels", {"discriminator": {"condition": "concat"}}, "no_labels has no use for condition"),
        ("pix2pix", {"generator": {"n_blocks": 6}}, "pix2pix has no use for n_blocks"),
        ("pix2pix", {"objective": {"cycle": 1.0}}, "pix2pix has no use for cycle"),
        ("pix2pix", {"objective": {"adversarial": 0.0}}, "pix2pix is adversarial"),
        ("pix2pix", {"image_size": 100}, "image size 100: a U-Net needs a multiple of 32"),
        ("cyclegan", {"generator": {"n_before_eta": 2}}, "cyclegan has no use for n_before_eta"),
        ("cyclegan", {"objective": {"reconstruction": 1.0}}, "cyclegan has no use for reconstruction"),
        ("monce", {"generator": {"head": "blend"}}, "monce has no use for head"),
        ("monce", {"objective": {"weighting": "soft"}}, "weighting is 'soft'"),
        ("prposed", {}, "recipe is 'prposed'; use one of proposed"),
    ],
)
def test_an_override_without_effect_or_out_of_range_is_refused(
    recipe: str, parts: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        config(recipe, **parts)


def test_pix2pix_follows_the_image_size_and_may_use_the_resnet() -> None:
    depths = {
        size: config("pix2pix", image_size=size).generator.n_downsamplings for size in (32, 64, 256, 512, 96)
    }
    assert depths == {32: 5, 64: 6, 256: 8, 512: 8, 96: 5}
    resnet = config("pix2pix", image_size=100, generator={"architecture": "resnet", "n_blocks": 2}).generator
    assert (resnet.architecture, resnet.n_blocks) == ("resnet", 2)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_resumed_method_continues_alike(recipe: str) -> None:
    """The state, pools included, restores everything but the random number generators."""
    batches = [small_batch((1, 1), (1, 1), seed) for seed in range(3)]
    overrides = {"objective": {"pool_size": 3}} if recipe == "cyclegan" else {}
    first, second = (
        TrainingStep(build_method(small(recipe, **overrides)), OptimizerConfig()) for _ in range(2)
    )
    for batch in batches[:2]:
        first(batch, 1e-3)
    buffer = io.BytesIO()
    torch.save(first.state(), buffer)
    buffer.seek(0)
    second.load_state(torch.load(buffer, weights_only=True))
    results = []
    for step in (first, second):
        torch.manual_seed(5)
        results.append(step(batches[2], 1e-3))
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_player_owns_its_parameters_and_all_of_them_learn(recipe: str) -> None:
    """All parameters have finite gradients, each from its own player's loss only (property 7)."""
    torch.manual_seed(11)
    method = build_method(small(recipe))
    makers, critics = method.generator_parameters(), method.discriminator_parameters()
    assert {id(p) for p in makers + critics} == {id(p) for p in method.parameters()}
    assert len(makers) + len(critics) == len(list(method.parameters()))
    batch = small_batch((1, 1, 1), (1, 1, 1))
    losses, fakes = method.generator_losses(batch)
    losses["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in makers)
    method.zero_grad(set_to_none=True)
    method.discriminator_losses(fakes, batch).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critics)
    assert all(p.grad is None for p in makers)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipes_generator_is_saved_as_a_bundle(recipe: str, tmp_path: Path) -> None:
    generator = build_method(small(recipe)).generator.eval()
    save_bundle(tmp_path, generator, "", 16, "", {})
    loaded = load_bundle(tmp_path).generator
    assert loaded.config == generator.config
    batch = small_batch((1, 1), (1, 1))
    arguments = (batch.x, batch.group, batch.type_)
    with torch.no_grad():
        expected = generator(*arguments)
        assert torch.equal(loaded(*arguments), expected)
        torch.testing.assert_close(apply_edit(batch.x, loaded.edit(*arguments)), expected)


def test_weights_of_defects_are_needed_only_to_balance_them() -> None:
    assert config("proposed", objective={"task_balance": "baseline"}).balances_defects
    assert not config("proposed").balances_defects


def test_a_recipe_takes_its_own_kind_of_objective() -> None:
    with pytest.raises(ConfigurationError, match="recipe is"):
        MethodConfig("mine", GeneratorConfig(2, 3), DiscriminatorConfig(), SemiPairedObjective())
