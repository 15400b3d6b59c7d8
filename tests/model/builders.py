"""Small configurations and batches that the tests of model/ share."""

from typing import Any

import torch
from torch import Tensor

from model.config import DiscriminatorConfig, GeneratorConfig
from model.edits import identity_theta
from model.generator import Generator
from model.method import Batch

#: Images of 16 and 32 pixels leave 4 and 8 after the encoder: enough for reflect padding and for every head.
SIDE = 16
SMALL_CRITIC = DiscriminatorConfig(width=4, n_layers=1)

#: One configuration per head; the geometry head may move group 1 only.
HEADS: dict[str, dict[str, Any]] = {
    "direct": {},
    "blend": {"head": "blend"},
    "geometry": {"head": "blend", "geometry": "affine", "geometric_groups": (1,)},
    "direct geometry": {"geometry": "affine", "geometric_groups": (1,)},
}


def small_config(**changes: Any) -> GeneratorConfig:
    """Return two groups, three types, width 4, two blocks. With torch's own injection weights labels matter at once."""
    settings = {
        "n_groups": 2,
        "n_types": 3,
        "width": 4,
        "n_blocks": 2,
        "n_before_eta": 1,
        "inject_init": "framework",
    }
    return GeneratorConfig(**{**settings, **changes})


def images(count: int, side: int = SIDE, seed: int = 0) -> Tensor:
    """Return random images (count, 3, side, side) in [-1, 1]."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def labels(*values: int) -> Tensor:
    """Return int64 (B,)."""
    return torch.tensor(values)


def small_batch(paired: tuple[int, ...], unpaired: tuple[int, ...], seed: int = 0) -> Batch:
    """Return random images; types run 0, 1, 2, 0, ... and belong to groups 0, 0, 1 as in the default label map."""
    count = len(paired)
    types = torch.arange(count) % 3
    return Batch(
        images(count, seed=seed),
        images(count, seed=seed + 1000),
        (types == 2).long(),
        types,
        torch.tensor(paired, dtype=torch.float32),
        torch.tensor(unpaired, dtype=torch.float32),
        None if any(unpaired) else 0,
    )


def part(batch: Batch, start: int, stop: int) -> Batch:
    """Return samples start..stop-1."""
    unpaired = batch.unpaired[start:stop]
    return Batch(*(value[start:stop] for value in batch[:6]), n_unpaired=None if unpaired.any() else 0)


def unsettle(generator: Generator) -> Generator:
    """Give a geometry head a transform that differs per image, as training would."""
    if generator.geometry is not None:
        torch.nn.init.normal_(generator.geometry.linear.weight, 0.0, 0.02)
        torch.nn.init.normal_(generator.geometry.linear.bias, 0.0, 0.05)
    return generator


def theta_of(*rows: list[list[float]]) -> Tensor:
    """Return affine maps (B, 2, 3) float32; with no rows, the identity for one image."""
    return torch.tensor(rows) if rows else identity_theta(1).clone()
