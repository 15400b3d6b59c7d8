from typing import Any

import pytest

from model.config import DiscriminatorConfig, GeneratorConfig
from model.errors import ConfigurationError
from model.recipes import RECIPES, MethodConfig, build_method, method_config
from model.semi_paired import SemiPairedObjective
from tests.model.builders import small_batch

SMALL = {"width": 4, "n_blocks": 2}


def config(recipe: str, **parts: Any) -> MethodConfig:
    return method_config(recipe, n_groups=2, n_types=3, **parts)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_builds_and_has_losses_of_its_own(recipe: str) -> None:
    found = config(recipe, generator=SMALL, discriminator={"n_layers": 1})
    method = build_method(found)
    batch = small_batch((1, 1), (1, 1))
    losses, fakes = method.generator_losses(batch)
    assert losses["total"].isfinite()
    assert losses["total"].requires_grad
    assert fakes.y.shape == batch.x.shape
    assert not any(image is not None and image.requires_grad for image in fakes)
    assert method.generator.config == found.generator
    assert (method.uses_pairs, method.uses_unpaired) == (found.uses_pairs, found.uses_unpaired)


@pytest.mark.parametrize(
    ("recipe", "groups", "types"),
    [("proposed", 2, 3), ("no_group", 0, 3), ("no_labels", 0, 0), ("paired_only", 2, 3)],
)
def test_ablations_remove_labels(recipe: str, groups: int, types: int) -> None:
    found = config(recipe)
    assert (found.generator.n_groups, found.generator.n_types) == (groups, types)
    assert found.discriminator == DiscriminatorConfig()
    assert found.generator == GeneratorConfig(groups, types)


def test_paired_only_learns_from_pairs_alone_and_closes_no_cycle() -> None:
    """ "w/o unpaired": u counts as 0 also where a batch sets it."""
    found = config("paired_only", generator=SMALL, discriminator={"n_layers": 1})
    assert (found.uses_pairs, found.uses_unpaired) == (True, False)
    assert config("proposed").uses_unpaired
    losses, _ = build_method(found).generator_losses(small_batch((1, 1), (1, 1)))
    assert losses["cycle"].item() == losses["identity"].item() == 0
    assert losses["reconstruction"].item() > 0


def test_what_is_not_overridden_follows_what_is() -> None:
    found = config("proposed", generator={"width": 32, "n_blocks": 6})
    assert (found.generator.n_before_eta, found.discriminator.width) == (3, 32)
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
        ("prposed", {}, "recipe is 'prposed'; use one of proposed"),
    ],
)
def test_an_override_without_effect_or_out_of_range_is_refused(
    recipe: str, parts: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        config(recipe, **parts)


def test_task_weights_are_asked_for_where_tasks_are_balanced() -> None:
    assert config("proposed", objective={"task_balance": "baseline"}).balances_tasks
    assert not config("proposed").balances_tasks


def test_a_recipe_takes_its_own_kind_of_objective() -> None:
    with pytest.raises(ConfigurationError, match="recipe is"):
        MethodConfig("mine", GeneratorConfig(2, 3), DiscriminatorConfig(), SemiPairedObjective())
