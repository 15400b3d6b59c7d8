"""Load a saliency model by name: the classical one, or a network's file at any URI."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.saliency.classical import ClassicalSaliency
from pipelines.saliency.network import NetworkSaliency, Runner
from pipelines.saliency.onnx import open_onnx
from pipelines.saliency.preprocessing import Preprocessing, read_preprocessing
from pipelines.saliency.protocol import Saliency

#: The name of the model that needs no weights.
CLASSICAL = "classical"


def _open_torchscript(file: Path, device: str) -> tuple[Runner, tuple[int, int] | None]:
    # Imported here: torch takes 500 MB in every process, and most do not need it.
    from pipelines.saliency.torchscript import open_torchscript

    return open_torchscript(file, device)


#: Functions that open a network's file, by suffix: (file, device) -> the network, and (height, width) of its input if
#: that is fixed.
_OPENERS: dict[str, Callable[[Path, str], tuple[Runner, tuple[int, int] | None]]] = {
    ".onnx": open_onnx,
    ".pt": _open_torchscript,
    ".torchscript": _open_torchscript,
}


def is_network(name: str) -> bool:
    """Return whether `name` ends like the URI of a network's file."""
    return Path(name).suffix.lower() in _OPENERS


def load_saliency(name: str, device: str = "cpu", flag: str = "--saliency") -> Saliency:
    """Return the model called `name`: `classical`, or a network's URI (`.onnx`; `.pt`, `.torchscript`: TorchScript).

    Load it once per process, on the worker that uses it: it holds the network. A JSON file of the same name beside the
    network, MODEL.json, may say how photos enter it (`preprocessing.Preprocessing`).

    device: `cpu`, `cuda` or `cuda:N`; `classical` always works on the CPU. flag: the setting's name in messages.

    A TorchScript file is a program, and an ONNX file is compiled by native code: give only files that you trust.

    Raises ConfigurationError naming the flag: for an unknown name, a file that cannot be read or holds no such network,
    a missing extra `saliency`, or a missing device.
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
    """Return the file at `uri` if it is local (a network may have its weights beside it), else a private copy."""
    storage.check_readable(uri, flag)
    fs, path = storage.resolve(uri)
    if storage.is_local(uri):
        return Path(path)
    with storage.as_configuration_error(uri, flag, "read"):
        fs.get_file(path, os.fspath(destination))
    return destination


def _settings(uri: str, flag: str) -> Preprocessing:
    """Return the settings in the JSON file at `uri`; the defaults if there is none."""
    with storage.as_configuration_error(uri, flag, "read"):
        try:
            text = storage.read_bytes(uri)
        except FileNotFoundError:
            return Preprocessing()
    try:
        return read_preprocessing(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{flag}: {uri}: {error}") from error
