"""Features for FID and KID: pool3 of pytorch-fid 0.3.0's InceptionV3 with the official weights."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.errors import ConfigurationError
from pipelines.images.resize import resize_bicubic
from pipelines.metrics.fid.weights import FidWeightsMissing, InceptionWeights, find_weights, read_weights

__all__ = ["FEATURE_DIMENSION", "FeatureExtractor", "FidWeightsMissing", "find_weights", "load_features"]

FEATURE_DIMENSION = 2048
#: Images are resized to this side before the network resizes them to its own 299.
IMAGE_SIDE = 256
#: Images per pass; limits the activations' memory for any batch size.
PASS_SIZE = 32

logger = logging.getLogger(__name__)
_construction = threading.Lock()


class FeatureExtractor:
    """Maps uint8 (H,W,3) images of any sizes to float32 (N,2048), a row per image in the same order.

    It always computes in float32, without TF32 and outside any autocast, because reduced precision changes the
    features. `network` is pytorch-fid's own.
    """

    def __init__(self, weights: InceptionWeights, device: torch.device | str) -> None:
        self.network = _build(weights.state).to(device).to(memory_format=torch.channels_last).eval()
        self._device = torch.device(device)
        self._weights = weights

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features. An empty sequence gives (0,2048)."""
        features = np.empty((len(images), FEATURE_DIMENSION), np.float32)
        for start in range(0, len(images), PASS_SIZE):
            part = images[start : start + PASS_SIZE]
            resized = np.stack([resize_bicubic(image, IMAGE_SIDE, IMAGE_SIDE) for image in part])
            features[start : start + len(part)] = self._forward(torch.from_numpy(resized)).cpu().numpy()
        return features

    def describe(self) -> dict[str, Any]:
        """Describe the features; see the function `describe`."""
        return describe(self._weights)

    @torch.inference_mode()
    def _forward(self, batch: Tensor) -> Tensor:
        """Return float32 (N,2048) of uint8 (N,256,256,3)."""
        # A permuted (N,H,W,C) array is channels_last in memory already.
        x = batch.permute(0, 3, 1, 2).to(self._device).float() / 255.0  # (N,3,256,256) in [0,1]
        with torch.autocast(self._device.type, enabled=False), torch.backends.cudnn.flags(allow_tf32=False):
            return self.network(x)[0][:, :, 0, 0]


def describe(weights: InceptionWeights) -> dict[str, Any]:
    """Return what decides whether two figures are comparable: the `features` part of fid.json."""
    return {
        "network": "InceptionV3 pool3, pytorch-fid 0.3.0",
        "dimension": FEATURE_DIMENSION,
        "official_weights": weights.official,
        "weights_sha256": weights.sha256,
        "resize": f"Pillow bicubic, antialiased, {IMAGE_SIDE}x{IMAGE_SIDE}",
        "precision": "float32",
    }


def load_features(weights: str, device: torch.device | str = "cpu") -> FeatureExtractor:
    """Return the extractor on `device`, from the URI of either kind of weights file (see `weights`).

    Raises ConfigurationError if the file holds something else.
    """
    read = read_weights(weights)
    if not read.official:
        logger.warning(
            "%s is not the official file: its FID compares only with figures made with the same file", weights
        )
    try:
        return FeatureExtractor(read, device)
    except _StateMismatchError as error:
        raise ConfigurationError(f"{weights}: does not fit pytorch-fid's InceptionV3: {error}") from error


class _StateMismatchError(Exception):
    """The names or shapes of a state dict differ from the network's."""


def _build(state: dict[str, Tensor]) -> torch.nn.Module:
    """Return pytorch-fid's InceptionV3 with `state`, without the download in its constructor."""
    import pytorch_fid.inception  # torchvision's operators bring PyTorch's compiler: two seconds of every job's start

    with _construction:  # one module attribute is replaced temporarily
        download = pytorch_fid.inception.load_state_dict_from_url
        pytorch_fid.inception.load_state_dict_from_url = lambda *_, **__: state
        try:
            return pytorch_fid.inception.InceptionV3([pytorch_fid.inception.InceptionV3.DEFAULT_BLOCK_INDEX])
        except RuntimeError as error:  # load_state_dict's message has many lines
            raise _StateMismatchError(str(error).splitlines()[-1].strip()) from error
        finally:
            pytorch_fid.inception.load_state_dict_from_url = download
