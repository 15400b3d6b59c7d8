"""Run an ONNX network with onnxruntime, which the extra `saliency` installs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigurationError, RunError
from pipelines.saliency.network import Runner, brief


def open_onnx(file: Path, device: str) -> tuple[Runner, tuple[int, int] | None]:
    """Return the network in `file`, and (height, width) of its input if the file fixes it.

    device: `cpu`, `cuda` or `cuda:N`; the latter two need onnxruntime's GPU package. The number of threads is
    OMP_NUM_THREADS, which Ray sets to an actor's CPUs; if unset, onnxruntime chooses. Raises ConfigurationError.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigurationError(
            "an .onnx network needs onnxruntime: run `pip install 'catalog-repair[saliency]'`, "
            "or give a TorchScript file (.pt)"
        ) from error
    provider: list[Any] = _providers(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(str(file), _options(onnxruntime), providers=provider)
    except Exception as error:  # onnxruntime's own errors share no base class but Exception
        raise ConfigurationError(f"not an ONNX network that onnxruntime can run: {brief(error)}") from error
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 4 or inputs[0].type != "tensor(float)" or shape[1] not in (3, None, str(shape[1])):
        raise ConfigurationError("its input must be one float32 tensor (B, 3, h, w)")
    fixed = (shape[2], shape[3]) if all(isinstance(side, int) for side in shape[2:]) else None
    return _Session(session, inputs[0].name, shape[0] if isinstance(shape[0], int) else None), fixed


class _Session:
    """A `Runner` that respects the batch size that the file fixes, if any."""

    def __init__(self, session: Any, name: str, batch: int | None) -> None:
        self._session, self._name, self._batch = session, name, batch

    def __call__(self, batch: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        step = self._batch or len(batch)
        parts = [self._run(batch[start : start + step], step) for start in range(0, len(batch), step)]
        return [np.concatenate(same) for same in zip(*parts, strict=True)]

    def _run(self, batch: NDArray[np.float32], count: int) -> list[NDArray[np.float32]]:
        missing = count - len(batch)
        padded = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
        try:
            outputs = self._session.run(None, {self._name: padded})
        except Exception as error:  # as in `open_onnx`
            raise RunError(f"the saliency network failed on {padded.shape}: {brief(error)}") from error
        return [np.asarray(output)[: len(batch)] for output in outputs]


def _options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; warnings about an export's constants are of no use
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():
        options.intra_op_num_threads = int(threads)
    return options


def _providers(device: str, available: Sequence[str]) -> list[Any]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    name, _, number = device.partition(":")
    if name != "cuda" or not (number or "0").isdigit():
        raise ConfigurationError(f"device {device!r}: give cpu, cuda or cuda:N")
    if "CUDAExecutionProvider" not in available:
        raise ConfigurationError(
            f"device {device!r}: this onnxruntime has no CUDA; install onnxruntime-gpu in its place, or choose cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]
