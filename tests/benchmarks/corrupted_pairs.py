"""Are bad pairs useful? `proposed` against `paired_only` on a set in which most targets are spoilt.

    python -m tests.benchmarks.corrupted_pairs

The task is to put fixed photos of a disc on white. Masks failed on one kind of photo, those with a bright background:
parts of the background stay in the target, or parts of the disc are missing. The pairs' quality is known, so `proposed`
gets them routed: p = 0, u = 1 and y drawn again from the trusted targets. `paired_only` can either trust every pair, or
drop the spoilt ones. Each update has PAIRS pairs; for `proposed` as many routed samples are added. Printed per seed: L1
to the right answer on held-back photos, half of them of each kind, and on those with a bright background alone. Takes
four to five minutes on one core.
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
from tests.benchmarks.toy_tasks import mean_l1, on_white, scenes

PHOTOS, SPOILT = 64, 56
SIDE, PAIRS, HELD_BACK = 16, 4, 64
NETWORK = {"width": 8, "n_blocks": 2}
CRITIC = {"width": 8, "n_layers": 1}
#: The compared variants: name, recipe, and what it does with spoilt pairs.
WAYS = {
    "proposed, routed": ("proposed", "route"),
    "paired_only, trusting": ("paired_only", "trust"),
    "paired_only, dropping": ("paired_only", "drop"),
}


class Photos(NamedTuple):
    """Photos with stored targets and right answers, (N, 3, SIDE, SIDE) each; trusted: (N,) bool."""

    x: Tensor
    stored: Tensor
    right: Tensor
    trusted: Tensor


def photos(count: int, bright: int, generator: torch.Generator) -> Photos:
    """Return `count` photos, the first `bright` of which have a bright background and a failed mask."""
    trusted = torch.arange(count) >= bright
    of_trusted = trusted[:, None, None, None]
    x, mask = scenes(count, SIDE, generator, torch.where(of_trusted, -0.2, 0.5))
    blotches = F.interpolate(
        torch.rand(count, 1, 4, 4, generator=generator), size=(SIDE, SIDE), mode="bilinear"
    )
    failed = torch.where(blotches > 0.5, 1 - mask, mask)
    stored = on_white(x, torch.where(of_trusted, mask, failed))
    return Photos(x, stored, on_white(x, mask), trusted)


def drawn(pool: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` random members of pool (N,)."""
    return pool[torch.randint(len(pool), (count,), generator=generator)]


def batch_of(data: Photos, way: str, generator: torch.Generator) -> Batch:
    """Return PAIRS random pairs, used as `way` says; for 'route' as many spoilt samples are added."""
    good, bad = (kind.nonzero().flatten() for kind in (data.trusted, ~data.trusted))
    everything = torch.arange(len(data.x))
    chosen = drawn(everything if way == "trust" else good, PAIRS, generator)
    targets = chosen
    if way == "route":
        chosen = torch.cat([chosen, drawn(bad, PAIRS, generator)])
        targets = torch.cat([targets, drawn(good, PAIRS, generator)])
    zeros = torch.zeros(len(chosen), dtype=torch.int64)
    paired = (torch.arange(len(chosen)) < PAIRS).float()
    return Batch(data.x[chosen], data.stored[targets], zeros, zeros, paired, torch.ones(len(chosen)))


def train(recipe: str, way: str, seed: int, steps: int) -> tuple[float, float]:
    """Return the held-back L1 after `steps` updates, of all photos and of those with a bright background."""
    torch.manual_seed(seed)
    data = photos(PHOTOS, SPOILT, torch.Generator().manual_seed(seed))
    method = build_method(
        method_config(recipe, n_groups=1, n_types=1, generator=NETWORK, discriminator=CRITIC)
    )
    step = TrainingStep(method, OptimizerConfig())
    generator = torch.Generator().manual_seed(1000 + seed)
    for number in range(steps):
        step(batch_of(data, way, generator), 1e-3 * min(1.0, 2 * (1 - number / steps)))
    bright = HELD_BACK // 2
    test = photos(HELD_BACK, bright, torch.Generator().manual_seed(10_000 + seed))
    zeros = torch.zeros(HELD_BACK, dtype=torch.int64)
    with torch.no_grad():
        made = step.generator(test.x, zeros, zeros)
    return mean_l1(made, test.right), mean_l1(made[:bright], test.right[:bright])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    data = photos(PHOTOS, SPOILT, torch.Generator().manual_seed(0))
    print(
        f"{PHOTOS} photos, {SPOILT} of them spoilt; {args.steps} steps of {PAIRS} pairs at {SIDE} pixels, {NETWORK}"
    )
    idle = mean_l1(data.x, data.right)
    print(f"L1 in [-1, 1] on {HELD_BACK} held-back photos (bright ones); doing nothing {idle:.4f}")
    print(f"{'seed':>4}  " + "  ".join(f"{name:>22}" for name in WAYS))
    for seed in range(args.seeds):
        errors = [train(recipe, way, seed, args.steps) for recipe, way in WAYS.values()]
        print(
            f"{seed:>4}  " + "  ".join(f"{every:13.4f} ({bright:.4f})" for every, bright in errors),
            flush=True,
        )
    print(f"{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    main()
