"""Run a TorchScript network.

A TorchScript file is a program: loading or running it executes its author's code, within the limits of the TorchScript
interpreter. Give only files that you trust; ONNX files hold no program.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import ConfigurationError, RunError
from pipelines.saliency.network import Runner, brief


def open_torchscript(file: Path, device: str) -> tuple[Runner, tuple[int, int] | None]:
    """Return the network in `file`, and None: the file never fixes the input's size. Raises ConfigurationError.

    device: `cpu`, `cuda` or `cuda:N`.
    """
    target = _device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is being retired; torch is pinned below its end
            network = torch.jit.load(str(file), map_location=target).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(
            "not a TorchScript network; save it with torch.jit.trace(network, example).save(path), "
            f"not torch.save ({brief(error)})"
        ) from error
    return _Module(network, target), None


class _Module:
    def __init__(self, network: Any, device: torch.device) -> None:
        self._network, self._device = network, device

    def __call__(self, batch: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        try:
            with torch.inference_mode():
                outputs = self._network(torch.from_numpy(batch).to(self._device))
        except RuntimeError as error:
            raise RunError(f"the saliency network failed on {batch.shape}: {brief(error)}") from error
        return [tensor.float().cpu().numpy() for tensor in _tensors(outputs)]


def _tensors(outputs: Any) -> list[torch.Tensor]:
    """Return a network's outputs, a tensor or nested lists, tuples or dicts of tensors, as a flat list."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if not isinstance(outputs, (list, tuple)):
        raise RunError(f"the saliency network returned {type(outputs).__name__} where a tensor was expected")
    return [tensor for output in outputs for tensor in _tensors(output)]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(f"device {name!r}: give cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f"device {name!r}: no such GPU on this machine; choose cpu")
    if device.type not in ("cpu", "cuda"):
        raise ConfigurationError(f"device {name!r}: give cpu, cuda or cuda:N")
    return device
