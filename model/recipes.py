"""Methods by name: each recipe's networks, losses and constants, and the settings that may be overridden."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

from model.baselines.cyclegan import CycleGAN, CycleGANObjective
from model.baselines.monce import MoNCE, MoNCEObjective
from model.baselines.pix2pix import Pix2Pix, Pix2PixObjective
from model.config import EDITING, DiscriminatorConfig, GeneratorConfig, require, require_choice, unet_depth
from model.method import Method
from model.semi_paired import SemiPaired, SemiPairedObjective

Objective = SemiPairedObjective | Pix2PixObjective | CycleGANObjective | MoNCEObjective


@dataclass(frozen=True)
class Recipe:
    """One of RECIPES: its method, its constants, and the settings that may be overridden.

    group_labels, type_labels: the conditions that the networks see. architectures: the first is the recipe's default.
    constants: values of the objective that differ from its defaults. fixed: settings of the objective that would turn
    this recipe into another.
    """

    method: type[SemiPaired] | type[Pix2Pix] | type[CycleGAN] | type[MoNCE]
    objective: type[Objective]
    group_labels: bool = False
    type_labels: bool = False
    architectures: tuple[str, ...] = EDITING
    constants: Mapping[str, Any] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()

    def knows(self, architecture: str) -> dict[str, set[str]]:
        """Return the settings that have an effect with this generator architecture, by part."""
        generator = set(_ARCHITECTURE_SETTINGS[architecture])
        if len(self.architectures) > 1:
            generator.add("architecture")
        if self.type_labels:
            generator |= {"reduce", "inject_init"} | ({"n_before_eta"} if architecture == "resnet" else set())
        if self.group_labels:
            generator |= {"geometry", "geometric_groups"}
        discriminator = {"width", "n_layers"} | ({"condition"} if self.type_labels else set())
        objective = {setting.name for setting in fields(self.objective)} - self.fixed
        return {"generator": generator, "discriminator": discriminator, "objective": objective}


_ARCHITECTURE_SETTINGS: dict[str, frozenset[str]] = {
    "resnet": frozenset({"width", "n_blocks", "head"}),
    "pretrained_unet": frozenset({"width", "head", "encoder", "freeze_norms"}),
    "unet": frozenset({"width", "n_downsamplings", "dropout"}),
    "resnet_blur": frozenset({"width", "n_blocks"}),
}

#: Defaults of an architecture that differ from GeneratorConfig's.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "pretrained_unet": {"width": 16, "head": "blend", "reduce": "sqrt", "inject_init": "wide"},
}

_RECIPES: dict[str, Recipe] = {
    "proposed": Recipe(
        SemiPaired,
        SemiPairedObjective,
        group_labels=True,
        type_labels=True,
        fixed=frozenset({"use_unpaired"}),
    ),
    # "w/o g".
    "no_group": Recipe(SemiPaired, SemiPairedObjective, type_labels=True, fixed=frozenset({"use_unpaired"})),
    # "w/o g, eta", which the paper also calls WS-I2I.
    "no_labels": Recipe(SemiPaired, SemiPairedObjective, fixed=frozenset({"use_unpaired"})),
    # "w/o unpaired": u is 0 everywhere, so cycle and identity vanish.
    "paired_only": Recipe(
        SemiPaired,
        SemiPairedObjective,
        group_labels=True,
        type_labels=True,
        constants={"cycle": 0.0, "identity": 0.0, "use_unpaired": False},
        fixed=frozenset({"cycle", "identity", "use_unpaired"}),
    ),
    "pix2pix": Recipe(Pix2Pix, Pix2PixObjective, architectures=("unet", *EDITING)),
    "cyclegan": Recipe(CycleGAN, CycleGANObjective),
    "monce": Recipe(MoNCE, MoNCEObjective, architectures=("resnet_blur",)),
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
        expected = _RECIPES[self.recipe].objective
        require(
            isinstance(self.objective, expected),
            f"recipe {self.recipe} needs a {expected.__name__}, not a {type(self.objective).__name__}",
        )

    @property
    def uses_pairs(self) -> bool:
        """True if any term learns from trusted pairs."""
        return self.objective.uses_pairs

    @property
    def uses_unpaired(self) -> bool:
        """True if any term learns from samples that are not trusted pairs."""
        return self.objective.uses_unpaired

    @property
    def balances_defects(self) -> bool:
        """True if `build_method` needs weights of defects, measured from the data."""
        return getattr(self.objective, "task_balance", "none") == "baseline"


def method_config(
    recipe: str,
    *,
    n_groups: int,
    n_types: int,
    image_size: int = 256,
    generator: Mapping[str, Any] | None = None,
    discriminator: Mapping[str, Any] | None = None,
    objective: Mapping[str, Any] | None = None,
) -> MethodConfig:
    """Return the configuration of a recipe, with overrides by field name.

    n_groups, n_types: sizes of the label map's vocabularies; recipes without labels ignore them. image_size: side in
    pixels, which decides a U-Net's depth. Other settings follow the overrides: the type is injected after 4/9 of the
    blocks, and the discriminators are as wide as the generators. Raises ConfigurationError for an override that the
    recipe cannot use, or that is out of range.
    """
    require_choice("recipe", recipe, RECIPES)
    known = _RECIPES[recipe]
    network, critic, losses = dict(generator or {}), dict(discriminator or {}), dict(objective or {})
    architecture = network.setdefault("architecture", known.architectures[0])
    require_choice(f"recipe {recipe}: architecture", architecture, known.architectures)
    useful = known.knows(architecture)
    for part, given in (("generator", generator), ("discriminator", discriminator), ("objective", objective)):
        useless = sorted(set(given or {}) - useful[part])
        require(
            not useless,
            f"recipe {recipe} has no use for {', '.join(useless)} ({part}); "
            f"it uses {', '.join(sorted(useful[part]))}",
        )
    for name, value in _DEFAULTS.get(architecture, {}).items():
        if name in useful["generator"]:
            network.setdefault(name, value)
    if architecture == "unet":
        network.setdefault("n_downsamplings", unet_depth(image_size))
    network.setdefault("n_before_eta", round(network.get("n_blocks", GeneratorConfig.n_blocks) * 4 / 9))
    if "width" in (generator or {}) and architecture != "pretrained_unet":
        critic.setdefault("width", network["width"])
    return MethodConfig(
        recipe,
        GeneratorConfig(
            n_groups=n_groups if known.group_labels else 0,
            n_types=n_types if known.type_labels else 0,
            **network,
        ),
        DiscriminatorConfig(**critic),
        known.objective(**{**known.constants, **losses}),
    )


def build_method(config: MethodConfig, defect_weight: Tensor | None = None) -> Method:
    """Return the method's networks, freshly initialised.

    defect_weight: (n_types,) factors of each defect's reconstruction term, if `config.balances_defects`.
    """
    kind = _RECIPES[config.recipe].method
    parts = (config.generator, config.discriminator, config.objective)
    if issubclass(kind, SemiPaired):
        return kind(*parts, defect_weight=defect_weight)  # type: ignore[arg-type]  # checked by MethodConfig
    return kind(*parts)  # type: ignore[arg-type]
