"""Writes prepared datasets with deliberate faults and leaks, for tests of the dataset check."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.images.encode import encode_image


def texture(seed: int, height: int = 120, width: int = 96) -> np.ndarray:
    """Draw a picture full of details, unlike any other seed's: uint8 (height, width, 3)."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 3))
    soft = gaussian_filter(noise, (2.0, 2.0, 0)) + 3 * gaussian_filter(noise, (12.0, 12.0, 0))
    low, high = soft.min(), soft.max()
    return ((soft - low) / (high - low) * 255).astype(np.uint8)


def cropped(image: np.ndarray, share: float) -> np.ndarray:
    """Crop `share` of the image's height and width, and resize it to its old size."""
    height, width = image.shape[:2]
    top, left = round(share * height / 2), round(share * width / 2)
    inner = Image.fromarray(image[top : height - top, left : width - left])
    return np.asarray(inner.resize((width, height), Image.Resampling.BICUBIC))


def jpeg(image: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def row(image_id: str, seed: int, split: str = "train", **columns: Any) -> dict[str, Any]:
    """Return a watermark pair as a row of SHARD, with PNG images."""
    clean = texture(seed)
    marked = clean.copy()
    marked[40:60, 20:80] //= 2
    return {
        "image_id": image_id,
        "source": encode_image(marked, "png"),
        "target": encode_image(clean, "png"),
        "pairing": "paired",
        "group": "background",
        "defect": "watermark",
        "product_type": "box",
        "split": split,
        **columns,
    }


def write(folder: Path, *shards: list[dict[str, Any]]) -> Path:
    """Write a dataset of these rows: shards/, label_map.yaml, dataset.json."""
    (folder / "shards").mkdir(parents=True)
    for number, rows in enumerate(shards):
        table = pa.Table.from_pylist(rows, SHARD)
        pq.write_table(table, folder / "shards" / f"part-{number}.parquet", row_group_size=3)
    (folder / "label_map.yaml").write_text(LabelMap.default().to_yaml())
    (folder / "dataset.json").write_text(json.dumps({"fingerprint": "f" * 64}))
    return folder


def healthy(photos: int = 6) -> list[dict[str, Any]]:
    """Return rows without any problem; every third photo is held back."""
    return [row(f"p{seed}", seed, "test" if seed % 3 == 2 else "train") for seed in range(photos)]


def faulty() -> list[dict[str, Any]]:
    """Return rows with one of every finding except near-duplicates and equal bytes, for which see `leaking`."""
    small = encode_image(texture(30, 60, 96), "png")
    return [
        row("broken", 20, source=b"\xff\xd8\xff no image"),
        row("blurred", 21, defect="blurred"),
        row("group", 22, group="angle"),
        row("lacks", 23, target=None),
        row("pairing", 24, pairing="perhaps"),
        row("", 25),
        row("split", 26, split="later"),
        row("same", 27, source=encode_image(texture(27), "png")),
        row("aspect", 30, source=small),
        row("twice", 28),
        row("twice", 29),
    ]


def leaking() -> list[dict[str, Any]]:
    """Return copies of training photos of `healthy` under other ids in the test split, and an id on both sides."""
    return [
        row("copy-jpeg", 0, "test", pairing="unpaired", source=None, target=jpeg(texture(0), 50)),
        row(
            "copy-crop",
            1,
            "test",
            pairing="unpaired",
            source=None,
            target=jpeg(cropped(texture(1), 0.04), 80),
        ),
        row("copy-bytes", 3, "test", pairing="unpaired", source=None),
        row("p4", 50, "test", defect="wrong_angle", group="angle"),
    ]
