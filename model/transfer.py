"""Starts a generator from one with other labels, so that a defect is added without forgetting the others."""

from collections.abc import Mapping

import torch
from torch import Tensor

from model.config import GeneratorConfig, require
from model.layers import ImageGenerator

#: Settings that may differ between the old and the new generator: labels, a geometry head that starts as the identity,
#: and settings that matter only for a fresh network.
FREE = frozenset(
    {"n_groups", "n_types", "geometry", "geometric_groups", "inject_init", "dropout", "freeze_norms"}
)


@torch.no_grad()
def transfer_generator(
    state: Mapping[str, Tensor],
    old_config: GeneratorConfig,
    new_generator: ImageGenerator,
    groups: Mapping[int, int],
    types: Mapping[int, int],
) -> None:
    """Load the weights `state` of a generator with `old_config` into `new_generator`, in place.

    groups, types: old label id to new one. Under mapped labels, the new generator gives the same output as the old one
    (if their group is geometric in both or in neither). Labels that nothing maps to keep their initial embedding; a
    geometry head that the old generator lacked starts as the identity. Raises ConfigurationError naming what does not
    fit.
    """
    new_config = new_generator.config
    for name, value in vars(old_config).items():
        require(
            name in FREE or value == getattr(new_config, name),
            f"the bundle's generator has {name} {value!r}, this training {getattr(new_config, name)!r}: "
            "give the bundle's",
        )
    require(
        old_config.geometry in ("none", new_config.geometry),
        "the bundle's generator has a geometry head and this training none: give geometry 'affine'",
    )
    for kind, old, new in (
        ("group", old_config.n_groups, new_config.n_groups),
        ("type", old_config.n_types, new_config.n_types),
    ):
        require(
            bool(old) == bool(new),
            f"only one of the bundle's generator and this training's takes {kind} labels: give the bundle's recipe",
        )
    merged = {**new_generator.state_dict(), **state}
    fresh = new_generator.state_dict()
    for kind, mapping in (("group", groups), ("type", types)):
        name = f"inject_{kind}.embedding.weight"
        if name in state:
            merged[name] = _moved(state[name], fresh[name], mapping, kind)
    new_generator.load_state_dict(merged)


def _moved(old: Tensor, fresh: Tensor, mapping: Mapping[int, int], kind: str) -> Tensor:
    """Return `fresh` (c, K') with the columns of `old` (c, K) at the indices that `mapping` gives."""
    known, available = range(old.shape[1]), range(fresh.shape[1])
    fits = all(source in known and target in available for source, target in mapping.items())
    require(
        fits and len(set(mapping.values())) == len(mapping),
        f"{kind} ids {dict(mapping)}: each of 0..{len(known) - 1} may move to one id of its own in "
        f"0..{len(available) - 1}",
    )
    merged = fresh.clone()
    for source, target in mapping.items():
        merged[:, target] = old[:, source]
    return merged
