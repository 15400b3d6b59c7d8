"""What a correction costs beside the generator: core time of decoding, edits at full size, gates and encoding.

    python -m tests.benchmarks.beside_generator [--images 32] [--output FILE.json]

Against Pillow, which decodes and encodes the same files, in the same run. Held-back real photos (../shared/data) are
corrected by the starter, as they are (some 400 x 530 pixels) and four times as large. Each figure is the smallest of
three rounds, in milliseconds of one core per photo. Does not start Ray.
"""

import argparse
import io
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image

from model.bundle import STARTER, load_bundle
from pipelines.cluster.memory import keep_freed_memory
from pipelines.correction.deliver.deliver import DeliverySettings, deliver
from pipelines.correction.deliver.gates import GateConfig, Rejection
from pipelines.images.decode import decode_image
from pipelines.images.encode import encode_image
from pipelines.images.fit import fit_inside
from pipelines.inference.edits.apply import apply_edits
from pipelines.inference.edits.codec import encode_edits
from pipelines.inference.generator import GeneratorPass
from tests.benchmarks.gate_study import DATA, DEFECT
from tests.benchmarks.starter_quality.samples import clothing
from tests.benchmarks.timing import timed

PHOTOS = DATA / "photos.parquet"
#: Conditions of DEFECT in the starter's label map.
CONDITIONS = 0, 0
#: Enlargements of the photos, and rounds of which the fastest counts.
SCALES, ROUNDS = (1, 4), 3
STEPS = ("decode", "edits", "gates and encoding", "Pillow alone")


class Upload(NamedTuple):
    """encoded: JPEG. edits: the generator's answer, of `rows.EDITS`. size: (width, height)."""

    encoded: bytes
    edits: list[dict[str, Any]]
    size: tuple[int, int]


def uploads(count: int, scale: int) -> list[Upload]:
    """Return photos, enlarged `scale` times, with the starter's edits."""
    torch.set_num_threads(1)
    bundle = load_bundle(STARTER)
    generator = GeneratorPass(None, "--bundle", bundle.version, torch.device("cpu"), "float32", 1)
    made = []
    for sample in clothing(PHOTOS, count):
        height, width = (scale * side for side in sample.photo.shape[:2])
        photo = cv2.resize(sample.photo, (width, height), interpolation=cv2.INTER_CUBIC)
        edits, _ = generator(
            [fit_inside(photo, (width, height), generator.side, generator.fit)], [CONDITIONS]
        )
        made.append(Upload(encode_image(photo), encode_edits(edits[0]), (width, height)))
    return made


def measure(photos: Sequence[Upload]) -> dict[str, float]:
    """Return milliseconds per photo of each of STEPS, and the ratio of the first three to the last."""
    rounds = [np.mean([_one(photo) for photo in photos], axis=0) for _ in range(ROUNDS)]
    best = np.min(rounds, axis=0) * 1000
    return {**dict(zip(STEPS, best.round(1).tolist(), strict=True)), "ratio": float(best[:3].sum() / best[3])}


def _one(photo: Upload) -> list[float]:
    row = {"upload": photo.encoded, "defects": [DEFECT], "edits": photo.edits, "product_type": None}
    upload, decoding = timed(lambda: decode_image(photo.encoded))
    edited, editing = timed(lambda: apply_edits(upload, photo.edits, [True]))
    _, delivering = timed(lambda: _delivered(upload, edited, row))
    _, alone = timed(lambda: _pillow(photo.encoded))
    return [decoding, editing, delivering, alone]


def _delivered(upload: np.ndarray, edited: Any, row: dict[str, Any]) -> None:
    try:
        deliver(upload, edited, row, DeliverySettings(gates=GateConfig()))
    except Rejection:
        return


def _pillow(encoded: bytes) -> None:
    Image.open(io.BytesIO(encoded)).save(io.BytesIO(), "JPEG", quality=92)


def main() -> None:
    """Print the table, and write it with facts about the machine."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images", type=int, default=32, help="number of photos")
    p.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = p.parse_args()
    if not PHOTOS.exists():
        sys.stdout.write(f"skipped: the real photos are not on this machine ({PHOTOS})\n")
        return
    keep_freed_memory()
    figures = {}
    for scale in SCALES:
        photos = uploads(arguments.images if scale == 1 else max(1, arguments.images // 3), scale)
        name = "{} x {}".format(*np.median([photo.size for photo in photos], axis=0).astype(int))
        figures[name] = measure(photos)
        sys.stdout.write(f"{name}: {figures[name]}\n")
    if arguments.output:
        machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
        arguments.output.write_text(json.dumps({**machine, "milliseconds": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
