"""Training images/s of this project's steps, against plain PyTorch loops over the same images in memory.

The recipe `cyclegan` against a CycleGAN as one writes it from the paper, without this project's code: the same networks
and widths, losses, image pools, Adam, batch and precision. The pretrained U-Net against the same network in a loop of
five lines: forward, L1, backward, Adam. Short rounds of one and the other alternate, and medians are compared. On a CPU
everything runs in one thread and time is the process's own, so that others on the machine count for little.

Then with bfloat16, where the hardware computes in it, against the plain loop in float32.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.generator import build_generator
from model.method import Batch
from model.precision import autocast, choose_device, memory_format
from model.recipes import MethodConfig, build_method, method_config
from model.training_step import OptimizerConfig, TrainingStep
from tests.benchmarks.machine import has_bfloat16_units
from tests.benchmarks.speed.ratio import Ratio
from tests.benchmarks.timing import in_turns

POOL = 50
#: An update on images x and y, float32 (B,3,H,W) in [-1,1].
Update = Callable[[Tensor, Tensor], None]
#: Rate of all updates, and of the plain loops' Adam.
RATE = 2e-4
#: Share of the running average of our weights, as trainings have it.
EMA = 0.999
#: Residual blocks of the paper's network; rounds, and updates in each.
BLOCKS, ROUNDS, UPDATES = 6, 9, 3


class Block(nn.Module):
    """Two convolutions of 3 and what they are added to, in the plain generator."""

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


def plain_cyclegan(width: int, blocks: int, device: torch.device) -> Update:
    """Return one update of a CycleGAN, written out."""
    make = [plain_generator(width, blocks), plain_generator(width, blocks)]
    make += [plain_discriminator(width), plain_discriminator(width)]
    g_ab, g_ba, d_a, d_b = (net.to(device) for net in make)
    opt_g = torch.optim.Adam(chain(g_ab.parameters(), g_ba.parameters()), RATE, (0.5, 0.999))
    opt_d = torch.optim.Adam(chain(d_a.parameters(), d_b.parameters()), RATE, (0.5, 0.999))
    pool_a, pool_b = History(), History()

    def fool(logits: Tensor) -> Tensor:
        return F.mse_loss(logits, torch.ones_like(logits))

    def judge(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        judged = critic(fake)
        return (fool(critic(real)) + F.mse_loss(judged, torch.zeros_like(judged))) / 2

    def step(a: Tensor, b: Tensor) -> None:
        for parameter in chain(d_a.parameters(), d_b.parameters()):
            parameter.requires_grad_(False)
        fake_b, fake_a = g_ab(a), g_ba(b)
        loss = fool(d_b(fake_b)) + fool(d_a(fake_a))
        loss = loss + 10 * (F.l1_loss(g_ba(fake_b), a) + F.l1_loss(g_ab(fake_a), b))
        loss = loss + 5 * (F.l1_loss(g_ba(a), a) + F.l1_loss(g_ab(b), b))
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()
        for parameter in chain(d_a.parameters(), d_b.parameters()):
            parameter.requires_grad_(True)
        loss = judge(d_a, a, pool_a.query(fake_a)) + judge(d_b, b, pool_b.query(fake_b))
        opt_d.zero_grad()
        loss.backward()
        opt_d.step()

    return step


def plain_unet(config: MethodConfig, device: torch.device) -> Update:
    """Return one update of the configuration's generator by L1 alone, in a plain loop."""
    network = build_generator(config.generator).to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), RATE, (0.5, 0.999))

    def step(x: Tensor, y: Tensor) -> None:
        group, type_ = (torch.zeros(len(x), dtype=torch.int64, device=device) for _ in range(2))
        loss = F.l1_loss(network(x, group, type_), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def ours(config: MethodConfig, device: torch.device, precision: torch.dtype) -> Update:
    """Return one update of this project's training, with its layout and averages."""
    method = build_method(config)
    layout = memory_format(precision, device, method)
    method = method.to(device, memory_format=layout)  # type: ignore[call-overload]
    update = TrainingStep(method, OptimizerConfig(), autocast(device, precision), EMA)

    def step(x: Tensor, y: Tensor) -> None:
        zeros = torch.zeros(len(x), dtype=torch.int64, device=device)
        images = [image.contiguous(memory_format=layout) for image in (x, y)]
        update([Batch(*images, zeros, zeros, zeros.float() + 1, zeros.float())], RATE)

    return step


def ratios(small: bool) -> list[Ratio]:
    """Return ours in relation to the plain loops, for both networks and the precisions that the hardware has."""
    device = choose_device("auto")
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    width, side = (64, 256) if device.type == "cuda" else (8, 32) if small else (32, 64)
    cyclegan = method_config(
        "cyclegan", n_groups=0, n_types=0, image_size=side, generator={"width": width, "n_blocks": BLOCKS}
    )
    unet = method_config(
        "proposed",
        n_groups=2,
        n_types=3,
        image_size=2 * side,
        generator={"architecture": "pretrained_unet"},
        objective={"adversarial": 0, "cycle": 0, "identity": 0, "directions": "forward"},
    )
    found = []
    for name, config, shape, plain in (
        (
            "the paper's network (recipe `cyclegan`)",
            cyclegan,
            (1, 3, side, side),
            plain_cyclegan(width, BLOCKS, device),
        ),
        ("the pretrained U-Net (L1 alone)", unet, (4, 3, 2 * side, 2 * side), plain_unet(unet, device)),
    ):
        x, y = (torch.rand(shape, device=device) * 2 - 1 for _ in range(2))
        for precision, aim in _precisions(device):
            both = (ours(config, device, precision), plain)
            speeds = rounds(both, x, y, 1 if small else ROUNDS, 1 if small else UPDATES)
            value = statistics.median(own / other for own, other in speeds)
            medians = [statistics.median(one) for one in zip(*speeds, strict=True)]
            figures = {
                "images_per_s": medians[0],
                "plain_images_per_s": medians[1],
                "shape": shape,
            }
            what = f"training step of {name}, {str(precision).removeprefix('torch.')}"
            found.append(Ratio(what, "a plain loop, float32", value, aim, figures=figures))
    return found


def _precisions(device: torch.device) -> list[tuple[torch.dtype, float]]:
    """Return the precisions that pay on a device, with the aim of each."""
    units = device.type == "cuda" or has_bfloat16_units()
    return [(torch.float32, 1.0), *([(torch.bfloat16, 1.5)] if units else [])]


def rounds(steps: Sequence[Update], x: Tensor, y: Tensor, count: int, updates: int) -> list[list[float]]:
    """Return the images/s of each step, `count` times in alternation, `updates` at a time, after a warm-up."""

    def clock() -> float:
        if not x.is_cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def repeated(step: Update) -> None:
        for _ in range(updates):
            step(x, y)

    measured = in_turns([partial(repeated, step) for step in steps], count, clock)
    return [[updates * len(x) / seconds for seconds in one] for one in measured]
