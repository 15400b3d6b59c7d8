"""Methods by name: each recipe's networks, losses and constants, and what of them may be overridden."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from model.config import DiscriminatorConfig, GeneratorConfig, require, require_choice
from model.method import Method
from model.semi_paired import SemiPaired, SemiPairedObjective

Objective = SemiPairedObjective


@dataclass(frozen=True)
class Family:
    """Recipes that share a method class, and the settings that it knows."""

    method: type[Method]
    objective: type[Objective]
    generator: frozenset[str]
    discriminator: frozenset[str]
    losses: frozenset[str]


_RESNET = frozenset({"width", "n_blocks", "head"})
_TYPE_LABELS = frozenset({"n_before_eta", "reduce", "inject_init"})
_GROUP_LABELS = frozenset({"geometry", "geometric_groups"})
_PATCHES = frozenset({"width", "n_layers"})

_SEMI_PAIRED = Family(
    SemiPaired,
    SemiPairedObjective,
    _RESNET | _TYPE_LABELS | _GROUP_LABELS,
    _PATCHES,
    frozenset({"adversarial", "reconstruction", "cycle", "identity", "directions", "task_balance"}),
)


@dataclass(frozen=True)
class Recipe:
    """One name of RECIPES. group_labels, type_labels: which conditions the networks see.

    constants: by part (generator, discriminator, objective), what differs from the dataclasses' defaults.
    fixed: settings of the family that would turn this recipe into another, or that it has no use for.
    """

    family: Family
    group_labels: bool = False
    type_labels: bool = False
    constants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()


_RECIPES: dict[str, Recipe] = {
    "proposed": Recipe(_SEMI_PAIRED, group_labels=True, type_labels=True),
    # "w/o g".
    "no_group": Recipe(_SEMI_PAIRED, type_labels=True, fixed=_GROUP_LABELS),
    # "w/o g, eta", which the paper also calls WS-I2I.
    "no_labels": Recipe(_SEMI_PAIRED, fixed=_GROUP_LABELS | _TYPE_LABELS),
    # "w/o unpaired": u is 0 everywhere.
    "paired_only": Recipe(
        _SEMI_PAIRED,
        group_labels=True,
        type_labels=True,
        constants={"objective": {"cycle": 0.0, "identity": 0.0, "use_unpaired": False}},
        fixed=frozenset({"cycle", "identity"}),
    ),
}

RECIPES: tuple[str, ...] = tuple(_RECIPES)


@dataclass(frozen=True)
class MethodConfig:
    """Everything that decides a method's networks and losses; `method_config` makes one by name."""

    recipe: str
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    objective: Objective

    def __post_init__(self) -> None:
        require_choice("recipe", self.recipe, RECIPES)
        expected = _RECIPES[self.recipe].family.objective
        require(
            isinstance(self.objective, expected),
            f"recipe {self.recipe} needs a {expected.__name__}, not a {type(self.objective).__name__}",
        )

    @property
    def uses_pairs(self) -> bool:
        """Whether any term learns from trusted pairs."""
        return self.objective.uses_pairs

    @property
    def uses_unpaired(self) -> bool:
        """Whether any term learns from samples that are no trusted pairs."""
        return self.objective.uses_unpaired

    @property
    def balances_tasks(self) -> bool:
        """Whether `build_method` expects task weights, measured from the data."""
        return getattr(self.objective, "task_balance", "none") == "baseline"


def method_config(
    recipe: str,
    *,
    n_groups: int,
    n_types: int,
    generator: Mapping[str, Any] | None = None,
    discriminator: Mapping[str, Any] | None = None,
    objective: Mapping[str, Any] | None = None,
) -> MethodConfig:
    """The recipe's own constants, with overrides by field name.

    n_groups, n_types: sizes of the label map's vocabularies; recipes without labels ignore them. What is not
    overridden follows what is: the type's injection stands after 4/9 of the blocks, and the discriminators are as
    wide as the generators. Raises ConfigurationError for an override that the recipe has no use for, or out of range.
    """
    require_choice("recipe", recipe, RECIPES)
    known = _RECIPES[recipe]
    family, constants = known.family, known.constants
    parts = {
        "generator": (family.generator, dict(generator or {})),
        "discriminator": (family.discriminator, dict(discriminator or {})),
        "objective": (family.losses, dict(objective or {})),
    }
    for part, (allowed, given) in parts.items():
        useful = allowed - (known.fixed if part != "discriminator" else frozenset())
        useless = sorted(set(given) - useful)
        require(
            not useless,
            f"recipe {recipe} has no use for {', '.join(useless)} ({part}); it knows {', '.join(sorted(useful))}",
        )
    settings = {part: {**constants.get(part, {}), **given} for part, (_, given) in parts.items()}
    network = settings["generator"]
    network.setdefault("n_before_eta", round(network.get("n_blocks", GeneratorConfig.n_blocks) * 4 / 9))
    network["n_groups"] = n_groups if known.group_labels else 0
    network["n_types"] = n_types if known.type_labels else 0
    if "width" in network:
        settings["discriminator"].setdefault("width", network["width"])
    return MethodConfig(
        recipe,
        GeneratorConfig(**network),
        DiscriminatorConfig(**settings["discriminator"]),
        family.objective(**settings["objective"]),
    )


def build_method(config: MethodConfig, task_weight: Tensor | None = None) -> Method:
    """The method's networks, freshly initialised.

    task_weight: (n_types,) factors of each task's reconstruction term, where `config.balances_tasks`.
    """
    return SemiPaired(config.generator, config.discriminator, config.objective, task_weight)
