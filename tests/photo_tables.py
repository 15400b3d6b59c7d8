"""Makes small photos with masks, and parquet tables of them, for the tests of dataset preparation."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HEIGHT, WIDTH = 96, 64

PHOTOS = pa.schema(
    [
        ("image_id", pa.string()),
        ("product_type", pa.string()),
        ("image", pa.binary()),
        ("mask", pa.binary()),
        ("mask_uncertain_fraction", pa.float32()),
        ("mask_area_fraction", pa.float32()),
    ]
)


def encode(image: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    """Encode uint8 (H, W) or (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format, **options)
    return buffer.getvalue()


def product() -> np.ndarray:
    """Return a mask, boolean (H, W): a rectangle away from the border, taller than wide."""
    where = np.zeros((HEIGHT, WIDTH), bool)
    where[20:80, 18:46] = True
    return where


def scene() -> np.ndarray:
    """Draw a red product on a green background, uint8 (H, W, 3)."""
    return np.where(product()[..., None], np.uint8((200, 40, 40)), np.uint8((60, 140, 90)))


def record(image_id: str | None = "photo", **changes: Any) -> dict[str, Any]:
    """Return a row of PHOTOS with a perfect mask, except for `changes`."""
    mask = encode(product().astype(np.uint8) * 255)
    return {"image_id": image_id, "image": encode(scene()), "mask": mask, "product_type": "shirt", **changes}


def write_table(path: Path, rows: Sequence[dict[str, Any]], row_group_size: int = 1000) -> Path:
    """Write `rows` as a table of photos."""
    pq.write_table(pa.Table.from_pylist(list(rows), PHOTOS), path, row_group_size=row_group_size)
    return path
