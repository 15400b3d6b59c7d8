"""Training images/s: the recipe `cyclegan` against a plain PyTorch CycleGAN loop, side by side in one process.

    python -m tests.benchmarks.training_throughput
    python -m tests.benchmarks.training_throughput --width 64 --blocks 9 --image-size 256     # on a GPU

The plain loop below is what one writes from the paper, without this project's code: the same networks and widths,
losses, image pools, Adam, batch and precision. Both repeat on the same images in memory, so nothing is read or decoded.
Short rounds of one and the other alternate, and medians are compared. On a CPU everything runs in one thread and time
is the process's own, so that others on the machine count for little.
Then the same in bfloat16 under autocast with images and weights in channels-last layout. A CPU without units for
bfloat16 emulates it: there the factor is far below 1, and `--precision auto` of the training job stays with float32.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.method import Batch
from model.precision import autocast, choose_device
from model.recipes import build_method, method_config
from model.training_step import OptimizerConfig, TrainingStep

POOL = 50


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3), nn.Conv2d(width, width, 3)
        self.pad, self.norm = nn.ReflectionPad2d(1), nn.InstanceNorm2d(width)

    def forward(self, h: Tensor) -> Tensor:
        inner = torch.relu(self.norm(self.conv1(self.pad(h))))
        return h + self.norm(self.conv2(self.pad(inner)))


def plain_generator(width: int, blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.ReflectionPad2d(3),
        nn.Conv2d(3, width, 7),
        nn.InstanceNorm2d(width),
        nn.ReLU(True),
    ]
    for scale in (1, 2):
        down = nn.Conv2d(width * scale, width * scale * 2, 3, 2, 1)
        layers += [down, nn.InstanceNorm2d(width * scale * 2), nn.ReLU(True)]
    layers += [Block(width * 4) for _ in range(blocks)]
    for scale in (4, 2):
        up = nn.ConvTranspose2d(width * scale, width * scale // 2, 3, 2, 1, 1)
        layers += [up, nn.InstanceNorm2d(width * scale // 2), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())


def plain_discriminator(width: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for inputs, outputs, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
        layers += [nn.Conv2d(width * inputs, width * outputs, 4, stride, 1)]
        layers += [nn.InstanceNorm2d(width * outputs), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(width * 8, 1, 4, 1, 1))


class History:
    """The usual buffer of earlier fakes."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []

    def query(self, batch: Tensor) -> Tensor:
        chosen = []
        for image in batch.detach():
            if len(self.images) < POOL:
                self.images.append(image.clone())
                chosen.append(image)
            elif torch.rand(()) < 0.5:
                index = int(torch.randint(POOL, ()))
                chosen.append(self.images[index])
                self.images[index] = image.clone()
            else:
                chosen.append(image)
        return torch.stack(chosen)


def plain_step(
    width: int, blocks: int, device: torch.device, bfloat16: bool
) -> Callable[[Tensor, Tensor], None]:
    """Return one update of a CycleGAN, written out."""
    layout = torch.channels_last if bfloat16 else torch.contiguous_format
    make = [plain_generator(width, blocks), plain_generator(width, blocks)]
    make += [plain_discriminator(width), plain_discriminator(width)]
    g_ab, g_ba, d_a, d_b = (net.to(device, memory_format=layout) for net in make)  # type: ignore[call-overload]
    opt_g = torch.optim.Adam(chain(g_ab.parameters(), g_ba.parameters()), 2e-4, (0.5, 0.999))
    opt_d = torch.optim.Adam(chain(d_a.parameters(), d_b.parameters()), 2e-4, (0.5, 0.999))
    pool_a, pool_b = History(), History()

    def fool(logits: Tensor) -> Tensor:
        return F.mse_loss(logits.float(), torch.ones_like(logits, dtype=torch.float32))

    def judge(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        judged = critic(fake).float()
        return (fool(critic(real)) + F.mse_loss(judged, torch.zeros_like(judged))) / 2

    def step(a: Tensor, b: Tensor) -> None:
        for parameter in chain(d_a.parameters(), d_b.parameters()):
            parameter.requires_grad_(False)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            fake_b, fake_a = g_ab(a).float(), g_ba(b).float()
            loss = fool(d_b(fake_b)) + fool(d_a(fake_a))
            loss = loss + 10 * (F.l1_loss(g_ba(fake_b).float(), a) + F.l1_loss(g_ab(fake_a).float(), b))
            loss = loss + 5 * (F.l1_loss(g_ba(a).float(), a) + F.l1_loss(g_ab(b).float(), b))
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()
        for parameter in chain(d_a.parameters(), d_b.parameters()):
            parameter.requires_grad_(True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = judge(d_a, a, pool_a.query(fake_a)) + judge(d_b, b, pool_b.query(fake_b))
        opt_d.zero_grad()
        loss.backward()
        opt_d.step()

    return step


def our_step(
    width: int, blocks: int, device: torch.device, bfloat16: bool
) -> Callable[[Tensor, Tensor], None]:
    """Return one update of the recipe `cyclegan`."""
    network = {"width": width, "n_blocks": blocks}
    method = build_method(method_config("cyclegan", n_groups=0, n_types=0, generator=network))
    layout = torch.channels_last if bfloat16 else torch.contiguous_format
    method = method.to(device, memory_format=layout)  # type: ignore[call-overload]
    precision = autocast(device, torch.bfloat16 if bfloat16 else torch.float32)
    update = TrainingStep(method, OptimizerConfig(), precision)

    def step(x: Tensor, y: Tensor) -> None:
        zeros = torch.zeros(len(x), dtype=torch.int64, device=device)
        update(Batch(x, y, zeros, zeros, zeros.float(), zeros.float() + 1), 2e-4)

    return step


def rounds(
    steps: list[Callable[[Tensor, Tensor], None]], x: Tensor, y: Tensor, count: int, updates: int
) -> Iterator[list[float]]:
    """Yield images/s of each step function, `count` times in alternation, `updates` at a time, after a warm-up."""

    def seconds() -> float:
        if not x.is_cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    for number in range(count + 1):
        speeds = []
        for step in steps:
            started = seconds()
            for _ in range(updates):
                step(x, y)
            speeds.append(updates * len(x) / (seconds() - started))
        if number:
            yield speeds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--updates", type=int, default=3, help="per round")
    parser.add_argument("--bfloat16-rounds", type=int, default=2, help="0 leaves bfloat16 out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = choose_device("auto")
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    shape = (args.batch_size, 3, args.image_size, args.image_size)
    x, y = (torch.rand(shape, device=device) * 2 - 1 for _ in range(2))
    print(
        f"seed {args.seed}, {device}, width {args.width}, {args.blocks} blocks, {args.image_size} pixels, "
        f"batch {args.batch_size}; images/s, median of rounds of {args.updates} updates"
    )
    medians = {}
    for bfloat16, count in ((False, args.rounds), (True, args.bfloat16_rounds)):
        if not count:
            continue
        layout = torch.channels_last if bfloat16 else torch.contiguous_format
        both = [make(args.width, args.blocks, device, bfloat16) for make in (our_step, plain_step)]
        images = [image.contiguous(memory_format=layout) for image in (x, y)]
        measured = list(rounds(both, *images, count, args.updates))
        own, plain = (statistics.median(speeds[index] for speeds in measured) for index in (0, 1))
        ratio = statistics.median(speeds[0] / speeds[1] for speeds in measured)
        medians[bfloat16] = own
        name = "bfloat16, channels last" if bfloat16 else "float32"
        print(f"{name:<24} ours {own:8.2f}  plain {plain:8.2f}  ours / plain {ratio:.3f}", flush=True)
    if len(medians) == 2:
        print(f"factor of bfloat16 and channels last: {medians[True] / medians[False]:.2f}")


if __name__ == "__main__":
    main()
