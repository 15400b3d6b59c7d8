"""Convert edits between the bytes that travel and the tensors that the model and `apply` use."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.edits import Edit
from pipelines.images.pixels import to_tensor, to_uint8

#: Mattes within this of 0 or 1 become that: generators are never quite sure. What is kept then keeps its bytes, what is
#: painted shows no trace of the old picture, and both are painted several times as fast.
SURE = 3 / 255


def encode_edits(edit: Edit) -> list[dict[str, Any]]:
    """Return an edit of B images as B values of `rows.EDITS`.

    They have 8 bits, as the output image does. Mattes from SURE to 1 - SURE are stretched to 0..1.
    """
    theta = edit.theta.float().cpu().numpy().astype("<f4")
    content, matte = to_uint8(edit.content), to_uint8(_stretched(edit.matte) * 2 - 1)
    return [
        {
            "theta": theta[i].tobytes(),
            "content": content[i].tobytes(),
            "matte": matte[i].tobytes(),
            "width": matte.shape[2],
        }
        for i in range(len(theta))
    ]


def _stretched(matte: Tensor) -> Tensor:
    return ((matte - SURE) / (1 - 2 * SURE)).clamp(0, 1)


def decode_edit(value: Mapping[str, Any]) -> Edit:
    """Return one value of EDITS as an edit of one image."""
    size = len(value["matte"]) // value["width"], value["width"]
    theta = np.frombuffer(value["theta"], "<f4").reshape(1, 2, 3).astype(np.float32)
    content = np.frombuffer(value["content"], np.uint8).reshape(1, *size, 3)
    matte = np.frombuffer(value["matte"], np.uint8).reshape(1, *size, 1)
    return Edit(torch.from_numpy(theta), to_tensor(content.copy()), (to_tensor(matte.copy()) + 1.0) / 2.0)
