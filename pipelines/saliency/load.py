"""Saliency by name: the classical one, or a network's file behind any URI."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from model.errors import ConfigurationError
from pipelines.saliency.classical import ClassicalSaliency
from pipelines.saliency.network import NetworkSaliency, Runner
from pipelines.saliency.onnx import open_onnx
from pipelines.saliency.preprocessing import Preprocessing, read_preprocessing
from pipelines.saliency.protocol import Saliency
from pipelines.storage import objects as storage

#: The name of the saliency that needs no weights.
CLASSICAL = "classical"


def _open_torchscript(file: Path, device: str) -> tuple[Runner, tuple[int, int] | None]:
    # Imported here: torch takes 500 MB in every process, and most have no use for it.
    from pipelines.saliency.torchscript import open_torchscript

    return open_torchscript(file, device)


#: How a network's file is opened, by the suffix of its name: (file, device) -> the network, the side of its input
#: (height, width) where that is fixed.
_OPENERS: dict[str, Callable[[Path, str], tuple[Runner, tuple[int, int] | None]]] = {
    ".onnx": open_onnx,
    ".pt": _open_torchscript,
    ".torchscript": _open_torchscript,
}


def is_network(name: str) -> bool:
    """Whether `name` is the URI of a network's file, by its ending."""
    return Path(name).suffix.lower() in _OPENERS


def load_saliency(name: str, device: str = "cpu", flag: str = "--saliency") -> Saliency:
    """The saliency called `name`: `classical`, or the URI of a network (`.onnx`; `.pt`, `.torchscript`: TorchScript).

    Load it once per process, on the worker that uses it: it holds the network. Beside the network may lie a JSON
    file of the same name, MODEL.json, that says how photos enter it (`preprocessing.Preprocessing`).

    device: `cpu`, `cuda` or `cuda:N`; `classical` always works on the CPU. flag: how messages call the setting.

    A TorchScript file is a program, and an ONNX file is compiled by native code: give only files that you trust.

    Raises ConfigurationError naming the flag: an unknown name, a file that cannot be read or is no such network,
    the extra `saliency` not installed, a device that is not there.
    """
    if name == CLASSICAL:
        return ClassicalSaliency()
    suffix = Path(name).suffix.lower()
    if not is_network(name):
        raise ConfigurationError(
            f"{flag} {name!r}: give {CLASSICAL!r}, or the URI of a network's file ending in {', '.join(_OPENERS)}"
        )
    beside = name[: -len(suffix)] + ".json"
    try:
        with tempfile.TemporaryDirectory(prefix="saliency-") as scratch:
            file = _local_file(name, Path(scratch) / f"network{suffix}", flag)
            settings = _settings(beside, flag)
            runner, fixed = _OPENERS[suffix](file, device)
    except ConfigurationError as error:
        raise (
            error if str(error).startswith(flag) else ConfigurationError(f"{flag} {name}: {error}")
        ) from error
    return NetworkSaliency(runner, settings.with_fixed(fixed))


def _local_file(uri: str, destination: Path, flag: str) -> Path:
    """The file at `uri`: itself where it is local (a network may have its weights beside it), else a private copy."""
    storage.check_readable(uri, flag)
    fs, path = storage.resolve(uri)
    if storage.is_local(uri):
        return Path(path)
    with storage.as_configuration_error(uri, flag, "read"):
        fs.get_file(path, os.fspath(destination))
    return destination


def _settings(uri: str, flag: str) -> Preprocessing:
    """What the JSON file at `uri` says; the defaults where there is none."""
    with storage.as_configuration_error(uri, flag, "read"):
        try:
            text = storage.read_bytes(uri)
        except FileNotFoundError:
            return Preprocessing()
    try:
        return read_preprocessing(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{flag}: {uri}: {error}") from error
