"""From rows of training shards to semi-paired batches: decode, crop, shuffle, meet, stack."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model.method import Batch
from pipelines.decode import decode_image
from pipelines.label_map import LabelMap
from pipelines.pixels import to_tensor
from pipelines.resize import resize_bicubic

#: Images are loaded this much larger than they are trained on, then cropped at random (CycleGAN: 286 to 256 pixels).
CROP_MARGIN = 286 / 256
#: Trusted targets kept per task for unpaired sources to meet; a bound on memory, not a tuning knob.
TARGET_POOL = 64


class Sample(NamedTuple):
    """One training sample. x, y: uint8 (S, S, 3); group and type are ids; paired, unpaired: the masks p and u."""

    x: NDArray[np.uint8]
    y: NDArray[np.uint8]
    group: int
    type: int
    paired: bool
    unpaired: bool


def load_size(size: int, group: str, cropped_groups: frozenset[str]) -> int:
    """Side in pixels at which a group's images are loaded: larger than `size` where they will be cropped."""
    return round(size * CROP_MARGIN) if group in cropped_groups else size


def decode_square(data: bytes | None, size: int) -> NDArray[np.uint8] | None:
    """Decode to uint8 (size, size, 3), the aspect ratio given up (the paper's literal resize); None stays None."""
    return None if data is None else resize_bicubic(decode_image(data, max_side=2 * size), size, size)


def decode_row(
    row: Mapping[str, Any], size: int, cropped_groups: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """A shard's row with `source` and `target` decoded to uint8 squares of `load_size` pixels, or None."""
    side = load_size(size, row["group"], cropped_groups)
    return {**row, "source": decode_square(row["source"], side), "target": decode_square(row["target"], side)}


def crop_row(row: dict[str, Any], size: int, rng: np.random.Generator) -> dict[str, Any]:
    """The decoded row with both images cropped to (size, size, 3) at one random place, so that pairs stay aligned."""
    margin = max(image.shape[0] for image in (row["source"], row["target"]) if image is not None) - size
    top, left = rng.integers(0, margin + 1, size=2)
    window = (slice(top, top + size), slice(left, left + size))
    return {**row, **{k: row[k][window] if row[k] is not None else None for k in ("source", "target")}}


def shuffled(
    rows: Iterable[dict[str, Any]], buffer: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """The rows in random order within a window of `buffer` rows: bounded memory, every row once."""
    window: list[dict[str, Any]] = []
    for row in rows:
        window.append(row)
        if len(window) >= buffer:
            index = int(rng.integers(len(window)))
            window[index], window[-1] = window[-1], window[index]
            yield window.pop()
    rng.shuffle(window)
    yield from window


def semi_paired(
    rows: Iterable[dict[str, Any]],
    label_map: LabelMap,
    cycle_groups: frozenset[str],
    use_unpaired: bool,
    rng: np.random.Generator,
) -> Iterator[Sample]:
    """Samples of decoded rows: a trusted pair, or an unpaired source with a random trusted target of its task.

    cycle_groups: groups whose samples also enter cycle and identity (u). use_unpaired: off where no term uses them.
    An unpaired source that comes before its task has shown any target is left out: no image of another task is ever
    'real' for it.
    """
    pools: dict[str, list[NDArray[np.uint8]]] = {}
    for row in rows:
        defect = label_map.defects[row["defect"]]
        pool = pools.setdefault(row["defect"], [])
        source, target = row["source"], row["target"]
        if target is not None:
            if len(pool) >= TARGET_POOL:
                pool[int(rng.integers(TARGET_POOL))] = target
            else:
                pool.append(target)
        group = label_map.groups[defect.group]
        if row["pairing"] == "paired":
            yield Sample(source, target, group, defect.id, True, defect.group in cycle_groups)
        elif use_unpaired and source is not None and pool:
            yield Sample(source, pool[int(rng.integers(len(pool)))], group, defect.id, False, True)


def batches(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Lists of exactly `size` samples; what is left at the end is dropped (the next epoch draws it elsewhere)."""
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []


def collate(samples: list[Sample], device: torch.device, layout: torch.memory_format) -> Batch:
    """Stack samples into a training batch on `device`, images in the memory layout `layout`."""
    return Batch(
        x=to_tensor(np.stack([sample.x for sample in samples]), device).contiguous(memory_format=layout),
        y=to_tensor(np.stack([sample.y for sample in samples]), device).contiguous(memory_format=layout),
        group=torch.tensor([sample.group for sample in samples], device=device),
        type_=torch.tensor([sample.type for sample in samples], device=device),
        paired=torch.tensor([float(sample.paired) for sample in samples], device=device),
        unpaired=torch.tensor([float(sample.unpaired) for sample in samples], device=device),
    )
