import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import (
    GEOMETRIES,
    HEADS,
    INJECT_INITS,
    REDUCTIONS,
    DiscriminatorConfig,
    GeneratorConfig,
    from_mapping,
    to_mapping,
)
from model.errors import ConfigurationError
from model.semi_paired import SemiPairedObjective
from model.training_step import OptimizerConfig

NAN = float("nan")


def generator(**changes: Any) -> GeneratorConfig:
    return GeneratorConfig(**{"n_groups": 2, "n_types": 3, **changes})


BAD: list[tuple[Callable[..., object], dict[str, Any], str]] = [
    (generator, {"n_groups": -1}, "n_groups"),
    (generator, {"n_types": -1}, "n_types"),
    (generator, {"width": 0}, "width is 0"),
    (generator, {"n_blocks": -1}, "n_blocks is -1"),
    (generator, {"n_before_eta": -1}, "n_before_eta is -1"),
    (generator, {"n_before_eta": 10}, "n_before_eta is 10"),
    (generator, {"n_blocks": 3, "n_before_eta": 4}, "n_before_eta is 4"),
    (generator, {"reduce": "max"}, "reduce is 'max'; use one of sum, sqrt, mean"),
    (generator, {"inject_init": "zero"}, "inject_init is 'zero'"),
    (generator, {"head": "unet"}, "head is 'unet'"),
    (generator, {"geometry": "perspective"}, "geometry is 'perspective'"),
    (generator, {"geometry": "affine"}, "geometric_groups"),
    (generator, {"geometric_groups": (1,)}, "geometric_groups"),
    (generator, {"geometry": "affine", "geometric_groups": (2,)}, "geometric_groups"),
    (generator, {"geometry": "affine", "geometric_groups": (-1,)}, "geometric_groups"),
    (generator, {"n_groups": 0, "geometry": "affine", "geometric_groups": (0,)}, "geometric_groups"),
    (DiscriminatorConfig, {"width": 0}, "width is 0"),
    (DiscriminatorConfig, {"n_layers": 0}, "n_layers is 0"),
    (DiscriminatorConfig, {"condition": "both"}, "condition is 'both'; use one of none, concat, projection"),
    (generator, {"architecture": "vit"}, "architecture is 'vit'; use one of resnet, pretrained_unet, unet"),
    (generator, {"dropout": 1.0}, "dropout is 1.0"),
    (generator, {"n_downsamplings": 1}, "n_downsamplings is 1"),
    *[
        (SemiPairedObjective, {name: value}, name)
        for name in ("adversarial", "reconstruction", "cycle", "identity")
        for value in (-1e-9, NAN)
    ],
    (SemiPairedObjective, {"directions": "backward"}, "directions is 'backward'"),
    (SemiPairedObjective, {"task_balance": "equal"}, "task_balance is 'equal'"),
    (SemiPairedObjective, {"directions": "forward"}, "cycle weight must be 0"),
    (SemiPairedObjective, {"dx_fake": "none"}, "dx_fake is 'none'; use one of mirror, cycle, both"),
    (SemiPairedObjective, {"dx_fake": "cycle", "adversarial": 0.0}, "needs D_X"),
    (SemiPairedObjective, {"dx_fake": "both", "cycle": 0.0, "directions": "forward"}, "needs D_X"),
    (SemiPairedObjective, {"relativistic": "mean"}, "relativistic is 'mean'; use one of pairwise, average"),
    (OptimizerConfig, {"rate": 0.0}, "rate is 0"),
    (OptimizerConfig, {"rate": NAN}, "rate is nan"),
    (OptimizerConfig, {"beta1": 1.0}, "beta"),
    (OptimizerConfig, {"beta1": -0.1}, "beta"),
    (OptimizerConfig, {"beta2": 1.0}, "beta"),
    (OptimizerConfig, {"beta2": NAN}, "beta"),
]


@pytest.mark.parametrize(
    ("kind", "values", "named"), BAD, ids=[f"{kind.__name__}-{values}" for kind, values, _ in BAD]
)
def test_a_bad_value_is_refused_by_name(
    kind: Callable[..., object], values: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        kind(**values)


@st.composite
def generator_configs(draw: st.DrawFn) -> GeneratorConfig:
    groups, blocks = draw(st.integers(0, 4)), draw(st.integers(0, 12))
    movable = draw(st.lists(st.integers(0, groups - 1), unique=True)) if groups else []
    return GeneratorConfig(
        n_groups=groups,
        n_types=draw(st.integers(0, 4)),
        width=draw(st.integers(1, 128)),
        n_blocks=blocks,
        n_before_eta=draw(st.integers(0, blocks)),
        reduce=draw(st.sampled_from(REDUCTIONS)),
        inject_init=draw(st.sampled_from(INJECT_INITS)),
        head=draw(st.sampled_from(HEADS)),
        geometry=GEOMETRIES[bool(movable)],
        geometric_groups=tuple(movable),
    )


@settings(max_examples=30, deadline=None)
@given(config=generator_configs())
def test_a_configuration_survives_json(config: GeneratorConfig) -> None:
    assert from_mapping(GeneratorConfig, json.loads(json.dumps(to_mapping(config))), "file") == config


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"n_groups": 2, "n_types": 3, "colour": 1, "depth": 2}, "config.json: unknown key colour, depth"),
        ({"n_groups": 2}, r"config.json: .*n_types"),
        ({"n_groups": 2, "n_types": "3"}, "config.json: "),
        ({"n_groups": 2, "n_types": 3, "geometric_groups": None}, "config.json: "),
    ],
)
def test_a_mapping_that_does_not_fit_names_its_file(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        from_mapping(GeneratorConfig, values, "config.json")
