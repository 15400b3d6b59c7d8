"""Turns decoded rows into a batch: crops, mirrors, stacks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model.method import Batch, Truth
from pipelines.images.pixels import to_tensor


class Sample(NamedTuple):
    """Hold one training sample. x, y: uint8 (S, S, 3); group, type: ids; paired, unpaired: the masks p and u.

    changed: uint8 (S, S), theta: float32 (2, 3), of a pair made anew (see `shards.reading.Decoded`), or None.
    """

    x: NDArray[np.uint8]
    y: NDArray[np.uint8]
    group: int
    type: int
    paired: bool
    unpaired: bool
    changed: NDArray[np.uint8] | None = None
    theta: NDArray[np.float32] | None = None


def augment(
    image: NDArray[np.uint8], size: int, chance: NDArray[np.float64], flip: bool = False
) -> NDArray[np.uint8]:
    """Crop the image to (size, size, 3) at the position chance[:2], in [0, 1); mirror it if `flip` and chance[2] < 0.5.

    Both images of a pair must get the same chance.
    """
    margin = image.shape[0] - size
    top, left = (int(part * (margin + 1)) for part in chance[:2])
    cropped = image[top : top + size, left : left + size]
    return cropped[:, ::-1] if flip and chance[2] < 0.5 else cropped


def collate(samples: Sequence[Sample], device: torch.device, layout: torch.memory_format) -> Batch:
    """Stack samples into a training batch on `device`, images in the memory layout `layout`.

    Samples with u come first, so that the passes for it can leave the others out.
    """
    samples = sorted(samples, key=lambda sample: not sample.unpaired)
    return Batch(
        x=to_tensor(np.stack([sample.x for sample in samples]), device).contiguous(memory_format=layout),
        y=to_tensor(np.stack([sample.y for sample in samples]), device).contiguous(memory_format=layout),
        group=torch.tensor([sample.group for sample in samples], device=device),
        type_=torch.tensor([sample.type for sample in samples], device=device),
        paired=torch.tensor([float(sample.paired) for sample in samples], device=device),
        unpaired=torch.tensor([float(sample.unpaired) for sample in samples], device=device),
        n_unpaired=sum(sample.unpaired for sample in samples),
        truth=_truth(samples, device),
    )


def _truth(samples: Sequence[Sample], device: torch.device) -> Truth | None:
    """Return the known truth of the samples that were made anew; None if there are none."""
    changed, theta = ([getattr(sample, name) for sample in samples] for name in ("changed", "theta"))
    if all(value is None for value in (*changed, *theta)):
        return None
    side = samples[0].x.shape[0]
    masks = [np.zeros((side, side), np.uint8) if mask is None else mask for mask in changed]
    maps = [np.eye(2, 3, dtype=np.float32) if map_ is None else map_ for map_ in theta]
    return Truth(
        changed=torch.from_numpy(np.stack(masks)[:, None]).to(device).float() / 255,
        theta=torch.from_numpy(np.stack(maps)).to(device),
        has_changed=torch.tensor([float(mask is not None) for mask in changed], device=device),
        has_theta=torch.tensor([float(map_ is not None) for map_ in theta], device=device),
    )
