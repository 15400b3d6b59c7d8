"""What are bad pairs good for? `proposed` against `paired_only` on a set in which most targets are spoilt.

    python -m tests.benchmarks.corrupted_pairs

A fixed set of photos of a disc, to be put on white. In SPOILT of them the target is what a failed mask leaves: parts of
the ground stay, or parts of the disc are gone. Their quality is known, so `proposed` gets them routed: p = 0, u = 1 and
y redrawn from the trusted targets. `paired_only` can do two things: trust every pair, or drop the spoilt ones. All
three make the same number of updates, in which they see what they have in turn. Printed per seed: L1 to the right
answer on held-back photos. About four minutes on one core.
"""

import argparse
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.method import Batch
from model.recipes import build_method, method_config
from model.training_step import OptimizerConfig, TrainingStep
from tests.benchmarks.toy_tasks import SIDE, mean_l1, on_white, scenes

PHOTOS, SPOILT = 96, 84
BATCH, HELD_BACK = 4, 64
NETWORK = {"width": 16, "n_blocks": 3}
CRITIC = {"width": 16, "n_layers": 2}
#: Name of a way: the recipe, and what it does with spoilt pairs.
WAYS = {
    "proposed, routed": ("proposed", "route"),
    "paired_only, trusting": ("paired_only", "trust"),
    "paired_only, dropping": ("paired_only", "drop"),
}


class Photos(NamedTuple):
    """x, what is stored as their target, the right answer: (N, 3, SIDE, SIDE) each; trusted (N,) bool."""

    x: Tensor
    stored: Tensor
    right: Tensor
    trusted: Tensor


def photos(count: int, spoilt: int, generator: torch.Generator) -> Photos:
    """The first `spoilt` of `count` photos have a failed mask."""
    x, mask = scenes(count, generator)
    blotches = F.interpolate(
        torch.rand(count, 1, 4, 4, generator=generator), size=(SIDE, SIDE), mode="bilinear"
    )
    failed = torch.where(blotches > 0.5, 1 - mask, mask)
    trusted = torch.arange(count) >= spoilt
    stored = on_white(x, torch.where(trusted[:, None, None, None], mask, failed))
    return Photos(x, stored, on_white(x, mask), trusted)


def batch_of(data: Photos, way: str, generator: torch.Generator) -> Batch:
    """BATCH random samples, as the way uses them."""
    good = data.trusted.nonzero().flatten()
    pool = good if way == "drop" else torch.arange(len(data.x))
    chosen = pool[torch.randint(len(pool), (BATCH,), generator=generator)]
    y, paired = data.stored[chosen], torch.ones(BATCH)
    if way == "route":
        paired = data.trusted[chosen].float()
        redrawn = data.stored[good[torch.randint(len(good), (BATCH,), generator=generator)]]
        y = torch.where(paired[:, None, None, None] > 0, y, redrawn)
    zeros = torch.zeros(BATCH, dtype=torch.int64)
    return Batch(data.x[chosen], y, zeros, zeros, paired, torch.ones(BATCH))


def train(recipe: str, way: str, seed: int, steps: int) -> float:
    """Held-back L1 after `steps` updates."""
    torch.manual_seed(seed)
    data = photos(PHOTOS, SPOILT, torch.Generator().manual_seed(seed))
    method = build_method(
        method_config(recipe, n_groups=1, n_types=1, generator=NETWORK, discriminator=CRITIC)
    )
    step = TrainingStep(method, OptimizerConfig())
    generator = torch.Generator().manual_seed(1000 + seed)
    for number in range(steps):
        step(batch_of(data, way, generator), 1e-3 * min(1.0, 2 * (1 - number / steps)))
    test = photos(HELD_BACK, 0, torch.Generator().manual_seed(10_000 + seed))
    zeros = torch.zeros(HELD_BACK, dtype=torch.int64)
    with torch.no_grad():
        return mean_l1(step.generator(test.x, zeros, zeros), test.right)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    data = photos(PHOTOS, SPOILT, torch.Generator().manual_seed(0))
    print(
        f"{PHOTOS} photos, {SPOILT} with spoilt targets; {args.steps} steps of {BATCH} at {SIDE} pixels, {NETWORK}"
    )
    print(f"L1 in [-1, 1] on {HELD_BACK} held-back photos; doing nothing {mean_l1(data.x, data.right):.4f}")
    print(f"{'seed':>4}  " + "  ".join(f"{name:>22}" for name in WAYS))
    for seed in range(args.seeds):
        found = [train(recipe, way, seed, args.steps) for recipe, way in WAYS.values()]
        print(f"{seed:>4}  " + "  ".join(f"{value:22.4f}" for value in found), flush=True)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
