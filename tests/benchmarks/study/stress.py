"""What a bundle does under wrong labels, with clean images, and with uploads of other sizes and qualities.

All figures are means over pairs of the test split at the bundle's own size: PSNR to the target in dB, and the change of
the upload, mean L1 on 0 to 1.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from model.bundle import Bundle
from pipelines.contracts.hashing import hash_number
from pipelines.contracts.label_map import LabelMap
from pipelines.images.decode import decode_image
from pipelines.images.encode import encode_image
from pipelines.images.pixels import to_tensor, to_uint8
from pipelines.images.resize import resize_bicubic
from pipelines.metrics.pixel_errors import psnr

Image = NDArray[np.uint8]

#: Pairs of each defect, chosen by hash of their ids: enough to tell half a decibel.
PAIRS = 60
BATCH = 8


class Pair(NamedTuple):
    """An upload with a defect and its target, uint8 (S, S, 3)."""

    defect: str
    upload: Image
    target: Image


def read_pairs(data: Path, side: int, limit: int = PAIRS) -> list[Pair]:
    """Return at most `limit` pairs of each defect of a test set, as squares of `side` pixels."""
    rows = [
        row
        for file in sorted((data / "shards").glob("*.parquet"))
        for row in pq.read_table(
            file, columns=["image_id", "defect", "pairing", "source", "target"]
        ).to_pylist()
        if row["pairing"] == "paired"
    ]
    rows.sort(key=lambda row: hash_number("stress", row["image_id"]))
    pairs: dict[str, list[Pair]] = {}
    for row in rows:
        chosen = pairs.setdefault(row["defect"], [])
        if len(chosen) < limit:
            squares = (resize_bicubic(decode_image(row[name]), side, side) for name in ("source", "target"))
            chosen.append(Pair(row["defect"], *squares))
    return [pair for defect in sorted(pairs) for pair in pairs[defect]]


@torch.inference_mode()
def answers(bundle: Bundle, images: Sequence[Image], condition: tuple[int, int]) -> list[Image]:
    """Return the bundle's answers to squares of its size, under one (group id, type id)."""
    made: list[Image] = []
    for start in range(0, len(images), BATCH):
        x = to_tensor(np.stack(images[start : start + BATCH]), torch.device("cpu"))
        group, type_ = (torch.full((len(x),), label) for label in condition)
        made += list(to_uint8(bundle.generator(x, group, type_)))
    return made


def stress(bundle: Bundle, data: Path, limit: int = PAIRS) -> dict[str, list[dict[str, Any]]]:
    """Return the figures under every label (`labels`), of clean images (`clean`) and of poor uploads (`uploads`)."""
    pairs = read_pairs(data, bundle.config["image_size"], limit)
    label_map = LabelMap.parse(bundle.label_map, "the bundle's label map")
    return {
        "labels": _under_labels(bundle, pairs, label_map),
        "clean": _clean(bundle, pairs, label_map),
        "uploads": _poor(bundle, pairs, label_map),
    }


def _under_labels(bundle: Bundle, pairs: Sequence[Pair], label_map: LabelMap) -> list[dict[str, Any]]:
    """Return a row for each defect that is shown and each label that the network can tell from others."""
    config, rows = bundle.generator.config, []
    groups = label_map.groups.items() if config.n_groups else [(None, 0)]
    types = [(name, one.id) for name, one in label_map.defects.items()] if config.n_types else [(None, 0)]
    for shown, part in _by_defect(pairs).items():
        for group, group_id in groups:
            for type_, type_id in types:
                made = answers(bundle, [pair.upload for pair in part], (group_id, type_id))
                rows.append({"shown": shown, "group": group, "type": type_, **_figures(part, made)})
    return rows


def _clean(bundle: Bundle, pairs: Sequence[Pair], label_map: LabelMap) -> list[dict[str, Any]]:
    """Return a row for each label that clean images are given wrongly: nothing should change."""
    targets = [pair for pair in pairs if pair.defect == "watermark"] or list(pairs)
    clean = [Pair("clean", pair.target, pair.target) for pair in targets]
    return [
        {
            "label": name,
            **_figures(clean, answers(bundle, [pair.upload for pair in clean], label_map.conditions[name])),
        }
        for name in label_map.defects
    ]


def _poor(bundle: Bundle, pairs: Sequence[Pair], label_map: LabelMap) -> list[dict[str, Any]]:
    """Return a row for each defect and way in which uploads are poor."""
    rows = []
    for way, spoiled in POOR.items():
        for shown, part in _by_defect(pairs).items():
            images = [spoiled(pair.upload) for pair in part]
            made = answers(bundle, images, label_map.conditions[shown])
            rows.append({"shown": shown, "upload": way, **_figures(part, made)})
    return rows


def _by_defect(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    by_defect: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_defect.setdefault(pair.defect, []).append(pair)
    return by_defect


def _figures(pairs: Sequence[Pair], made: Sequence[Image]) -> dict[str, Any]:
    """Return n, PSNR before and after, and how far the uploads were changed."""
    change = [
        np.abs(pair.upload.astype(np.int16) - image).mean() / 255
        for pair, image in zip(pairs, made, strict=True)
    ]
    before = [psnr(pair.upload, pair.target) for pair in pairs if (pair.upload != pair.target).any()]
    after = [psnr(image, pair.target) for pair, image in zip(pairs, made, strict=True)]
    return {
        "n": len(pairs),
        "psnr_before": round(float(np.mean(before)), 2) if before else None,
        "psnr": round(float(np.mean(after)), 2),
        "change": round(float(np.mean(change)), 5),
    }


def _jpeg(quality: int) -> Callable[[Image], Image]:
    return lambda image: decode_image(encode_image(image, "jpeg", quality=quality))


def _small(share: float) -> Callable[[Image], Image]:
    """Return a function that loses the detail above a share of the resolution."""

    def shrunk(image: Image) -> Image:
        side = len(image)
        less = max(1, round(side * share))
        return resize_bicubic(resize_bicubic(image, less, less), side, side)

    return shrunk


#: Ways in which uploads are poor.
POOR: dict[str, Callable[[Image], Image]] = {
    "as it is": lambda image: image,
    "JPEG quality 60": _jpeg(60),
    "JPEG quality 30": _jpeg(30),
    "half the resolution": _small(1 / 2),
    "a third of the resolution": _small(1 / 3),
}
