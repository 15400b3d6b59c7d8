"""Writes a tiny dataset for tests of training: drawn shapes, three tasks, both splits, pairs and unpaired rows."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.images.encode import encode_image


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a dark box on a coloured background and the same box on white, uint8 (40, 32, 3) each."""
    rng = np.random.default_rng(seed)
    clean = np.full((40, 32, 3), 255, np.uint8)
    top, left = rng.integers(4, 12, size=2)
    box = (slice(top, top + 20), slice(left, left + 14))
    clean[box] = rng.integers(0, 120, size=3)
    photo = np.full_like(clean, 0) + rng.integers(120, 220, size=3).astype(np.uint8)
    photo[box] = clean[box]
    return photo, clean


def write_dataset(folder: Path, photos: int = 16) -> Path:
    """Write shards/, label_map.yaml and dataset.json below `folder`; every eighth background row has no target."""
    label_map, rows = LabelMap.default(), []
    for index in range(photos):
        photo, clean = picture(index)
        marked = clean.copy()
        marked[16:20, 8:24] = marked[16:20, 8:24] // 2 + 90
        sources = {"non_white_background": photo, "watermark": marked, "wrong_angle": np.rot90(clean, 2)}
        for defect, source in sources.items():
            unpaired = defect == "non_white_background" and index % 8 == 6
            rows.append(
                {
                    "image_id": f"p{index}",
                    "source": encode_image(source, "png"),
                    "target": None if unpaired else encode_image(clean, "png"),
                    "pairing": "unpaired" if unpaired else "paired",
                    "group": label_map.defects[defect].group,
                    "defect": defect,
                    "product_type": "box",
                    "split": "test" if index % 4 == 3 else "train",
                }
            )
    (folder / "shards").mkdir(parents=True)
    half = len(rows) // 2
    for part, chunk in enumerate((rows[:half], rows[half:])):
        pq.write_table(pa.Table.from_pylist(chunk, schema=SHARD), folder / "shards" / f"part-{part}.parquet")
    (folder / "label_map.yaml").write_text(label_map.to_yaml())
    (folder / "dataset.json").write_text(json.dumps({"fingerprint": "f" * 64}))
    return folder
