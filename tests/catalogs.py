"""Makes small catalogs and bundles for the tests of correction."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from model.bundle import save_bundle
from model.config import GeneratorConfig
from model.detector.network import Calibration, Detector, DetectorConfig, save_detector
from model.generator import Generator
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import CATALOG
from tests.hostile_images import encode

SIDE = 32  # of the bundles' inputs
DEFECTS = ("wrong_angle", "watermark", "non_white_background")  # in the default map's order


def picture(seed: int, width: int = 60, height: int = 44) -> np.ndarray:
    """Draw uint8 (height,width,3): smooth colours that differ from seed to seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [
        np.sin(x / rng.uniform(5, 20) + rng.uniform(0, 6)) + np.cos(y / rng.uniform(5, 20)) for _ in range(3)
    ]
    return np.clip(128 + 60 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


def row(image_id: str, *labels: str, image: bytes | None = None, **columns: Any) -> dict[str, Any]:
    """Return a row of CATALOG: each label with score 0.9, and a picture of its own unless `image` or `uri` is given."""
    if image is None and "uri" not in columns:
        image = encode(picture(sum(image_id.encode())))
    return {
        "image_id": image_id,
        "image": image,
        "labels": [{"label": label, "score": 0.9} for label in labels],
        "product_type": "mug",
        **columns,
    }


def rows(count: int) -> list[dict[str, Any]]:
    """Return rows with every defect, with two defects, and with none, in turns."""
    kinds = [
        ("watermark",),
        ("non_white_background",),
        ("clean",),
        ("wrong_angle",),
        ("watermark", "wrong_angle"),
    ]
    return [row(f"image-{index}", *kinds[index % len(kinds)]) for index in range(count)]


def write_catalog(
    path: Path, catalog: Sequence[Mapping[str, Any]], row_group_size: int = 1000, schema: pa.Schema = CATALOG
) -> Path:
    """Write a parquet file of `schema`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [pa.array([one.get(field.name) for one in catalog], field.type) for field in schema]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, row_group_size=row_group_size)
    return path


def write_bundle(
    folder: Path,
    content: float | None = None,
    matte: float | None = None,
    side: int = SIDE,
    seed: int = 0,
    label_map: str | None = None,
    **details: str,
) -> Path:
    """Write a tiny bundle, with `details` in its configuration and the default label map unless one is given.

    With `content` (-1..1) and `matte` (0 or 1) it paints these everywhere; otherwise its weights are random.
    """
    torch.manual_seed(seed)
    generator = Generator(
        GeneratorConfig(
            n_groups=2,
            n_types=3,
            width=4,
            n_blocks=2,
            n_before_eta=1,
            head="blend",
            **({} if matte is not None else {"geometry": "affine", "geometric_groups": (1,)}),
        )
    )
    if content is not None and matte is not None:
        with torch.no_grad():
            generator.head.weight.zero_()
            generator.head.bias.copy_(
                torch.tensor([np.arctanh(content * 0.999)] * 3 + [200.0 * matte - 100.0])
            )
    save_bundle(
        folder, generator, label_map or LabelMap.default().to_yaml(), side, "a test's bundle\n", details
    )
    return folder


def write_detector(folder: Path, logits: Mapping[str, float], side: int = SIDE) -> Path:
    """Write a tiny detector that gives every image these logits, by label; its thresholds are 0.5."""
    torch.manual_seed(0)
    detector = Detector(DetectorConfig(tuple(logits)))
    with torch.no_grad():
        detector.head.weight.zero_()
        detector.head.bias.copy_(torch.tensor(list(logits.values())))
    save_detector(folder, detector, [Calibration()] * len(logits), side, "a test's detector\n", {})
    return folder


def read_parquet(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of the parquet files in `folder`, ordered by image_id."""
    table = [one for file in sorted(folder.glob("*.parquet")) for one in pq.read_table(file).to_pylist()]
    return sorted(table, key=lambda one: str(one["image_id"]))


def published(output: Path) -> dict[str, bytes]:
    """Return the images that the manifest names, by defect and name without the hash, which is checked."""
    images = {}
    for one in read_parquet(output / "manifest"):
        if one["output_uri"] is not None:
            path = Path(one["output_uri"])
            name, digest, extension = path.name.rsplit(".", 2)
            images[f"{path.parent.name}/{name}.{extension}"] = data = path.read_bytes()
            assert hashlib.sha256(data).hexdigest() == one["output_sha256"]
            assert one["output_sha256"].startswith(digest)
    return images


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below `folder`, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
