"""Choice of device and precision, by what the hardware supports."""

from collections.abc import Callable

import torch
from torch import nn

from model.config import require, require_choice

PRECISIONS = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")


def choose_device(requested: str) -> torch.device:
    """Return the requested device; 'auto' is cuda if available. Raises ConfigurationError if cuda is absent."""
    require_choice("--device", requested, DEVICES)
    available = torch.cuda.is_available()
    require(
        requested != "cuda" or available,
        "--device cuda was asked for, but torch sees no GPU here; use --device cpu",
    )
    return torch.device("cuda" if requested == "cuda" or (requested == "auto" and available) else "cpu")


def choose_precision(requested: str, device: torch.device) -> torch.dtype:
    """Return the requested precision; 'auto' is bfloat16 where it is faster than float32: on GPUs and CPUs with AMX.

    A CPU without bfloat16 units emulates it: on an AVX2 machine the generator ran nine times slower than in float32.
    """
    require_choice("--precision", requested, PRECISIONS)
    if requested == "auto":
        fast = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if requested == "bfloat16" else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> Callable[[], torch.autocast]:
    """Return a maker of autocast contexts for `precision`; for float32 they do nothing."""
    enabled = precision != torch.float32
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def memory_format(precision: torch.dtype, device: torch.device, network: nn.Module) -> torch.memory_format:
    """Return the fastest layout of a network's weights and images.

    Channels last suits bfloat16. On a CPU in float32 it made the paper's network a fifth slower, but one with depthwise
    convolutions, such as a pretrained U-Net, a tenth to a fifth faster in training and a fifth in correction.
    """
    depthwise = any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in network.modules())
    if precision == torch.bfloat16 or (device.type == "cpu" and depthwise):
        return torch.channels_last
    return torch.contiguous_format
