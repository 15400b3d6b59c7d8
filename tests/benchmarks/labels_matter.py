"""Does the label matter? `proposed` against `no_labels` where one input has two right answers.

    python -m tests.benchmarks.labels_matter

Both tasks draw their photos alike; type 0 asks for the disc on white, type 1 for the photo in grey. Every term of the
objective is on, all samples are pairs with p = u = 1, and both recipes see the same samples in the same order. Printed
per seed: L1 to the right answer on held-back photos, by task, and of doing nothing. Two to three minutes on one core.
"""

import argparse
import time

import torch

from model.method import Batch
from model.recipes import build_method, method_config
from model.training_step import OptimizerConfig, TrainingStep
from tests.benchmarks.toy_tasks import in_grey, mean_l1, on_white, scenes

RECIPES = ("proposed", "no_labels")
SIDE, BATCH, HELD_BACK = 16, 4, 64
NETWORK = {"width": 8, "n_blocks": 2}
CRITIC = {"width": 8, "n_layers": 1}


def batch_of(count: int, generator: torch.Generator) -> Batch:
    """Return a batch with half of the samples of each task."""
    photo, mask = scenes(count, SIDE, generator)
    type_ = torch.arange(count) % 2
    y = torch.where(type_[:, None, None, None] == 0, on_white(photo, mask), in_grey(photo))
    return Batch(photo, y, type_, type_, torch.ones(count), torch.ones(count))


def train(recipe: str, seed: int, steps: int) -> list[float]:
    """Return the held-back L1 of both tasks after `steps` updates."""
    torch.manual_seed(seed)
    method = build_method(
        method_config(recipe, n_groups=2, n_types=2, generator=NETWORK, discriminator=CRITIC)
    )
    step = TrainingStep(method, OptimizerConfig())
    generator = torch.Generator().manual_seed(seed)
    for number in range(steps):
        step(batch_of(BATCH, generator), 1e-3 * min(1.0, 2 * (1 - number / steps)))
    test = batch_of(HELD_BACK, torch.Generator().manual_seed(10_000 + seed))
    with torch.no_grad():
        made = step.generator(test.x, test.group, test.type_)
    return [mean_l1(made[test.type_ == task], test.y[test.type_ == task]) for task in (0, 1)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    test = batch_of(512, torch.Generator().manual_seed(1))
    idle = [mean_l1(test.x[test.type_ == task], test.y[test.type_ == task]) for task in (0, 1)]
    print(
        f"{args.steps} steps of {BATCH} at {SIDE} pixels, {NETWORK}; L1 in [-1, 1] on {HELD_BACK} held-back photos"
    )
    print(f"{'seed':>4}  {'recipe':<10}  {'white':>7}  {'grey':>7}  {'mean':>7}")
    print(f"{'':>4}  {'do nothing':<10}  {idle[0]:7.4f}  {idle[1]:7.4f}  {sum(idle) / 2:7.4f}")
    for seed in range(args.seeds):
        means = {}
        for recipe in RECIPES:
            white, grey = train(recipe, seed, args.steps)
            means[recipe] = (white + grey) / 2
            print(f"{seed:>4}  {recipe:<10}  {white:7.4f}  {grey:7.4f}  {means[recipe]:7.4f}", flush=True)
        print(f"{seed:>4}  proposed / no_labels: {means['proposed'] / means['no_labels']:.3f}", flush=True)
    print(f"{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    main()
