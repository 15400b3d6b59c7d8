"""Tiny saliency networks in the formats that teams have: the mask is how much redder than blue a pixel is."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

#: Weights of the channels: (R - B) * GAIN are logits.
GAIN = 20.0


def onnx_network(path: Path, size: object = "side", batch: object = "batch", logits: bool = True) -> Path:
    """Saves the network as ONNX at `path`. size, batch: a number fixes them."""
    weight = numpy_helper.from_array(np.float32([[[[GAIN]], [[0]], [[-GAIN]]]]), "weight")
    nodes = [helper.make_node("Conv", ["photo", "weight"], ["logits"])]
    if not logits:
        nodes.append(helper.make_node("Sigmoid", ["logits"], ["mask"]))
    output = "logits" if logits else "mask"
    graph = helper.make_graph(
        nodes,
        "redness",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, 1, size, size])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


class Redness(nn.Module):
    """The same in torch; `extra` outputs of zeros come before the mask, as networks with side outputs have them."""

    def __init__(self, extra: int = 0) -> None:
        super().__init__()
        self.extra = extra
        self.gain = GAIN

    def forward(self, photo: Tensor) -> list[Tensor]:
        mask = self.gain * (photo[:, :1] - photo[:, 2:])
        outputs = [torch.zeros_like(mask) for _ in range(self.extra)]
        outputs.append(mask)
        return outputs


def torchscript_network(path: Path, extra: int = 0) -> Path:
    """Saves `Redness` as TorchScript at `path`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is being retired; teams have such files
        torch.jit.script(Redness(extra)).save(str(path))
    return path
