"""What a correction costs beside the generator: core time of decoding, edits at full size, gates and encoding.

Against Pillow, which decodes and encodes the same files. Held-back real photos (../shared/data) are corrected by the
starter, as they are (some 400 x 530 pixels) and four times as large; where they are absent, drawn photos of 533 pixels
take their place. Each figure is the smallest of three rounds, in milliseconds of one core per photo.
"""

import io
from collections.abc import Iterator, Sequence
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
from pipelines.synthesis.products import draw_scene
from tests.benchmarks.gate_study import DATA, DEFECT
from tests.benchmarks.speed.ratio import Ratio
from tests.benchmarks.starter_quality.samples import clothing
from tests.benchmarks.timing import timed

PHOTOS = DATA / "photos.parquet"
#: Conditions of DEFECT in the starter's label map.
CONDITIONS = 0, 0
#: Enlargements of the photos with the aim of each, and rounds of which the fastest counts.
SCALES, ROUNDS = {1: 5.0, 4: 3.0}, 3
STEPS = ("decode", "edits", "gates and encoding", "Pillow alone")
#: Long side of a drawn photo, pixels; sellers' photos have it, too.
DRAWN_SIDE = 533


class Upload(NamedTuple):
    """encoded: JPEG. edits: the generator's answer, of `rows.EDITS`. size: (width, height)."""

    encoded: bytes
    edits: list[dict[str, Any]]
    size: tuple[int, int]


def ratios(small: bool) -> list[Ratio]:
    """Return what the steps cost in relation to Pillow's, for photos of usual size and large ones."""
    keep_freed_memory()
    found = []
    for scale, aim in SCALES.items():
        photos = uploads(2 if small else 32 if scale == 1 else 10, scale)
        figures = measure(photos)
        width, height = np.median([photo.size for photo in photos], axis=0).astype(int)
        value = sum(figures[step] for step in STEPS[:3]) / figures[STEPS[3]]
        what = f"core time beside the generator, {'real' if PHOTOS.exists() else 'drawn'} photos of {width} × {height}"
        figures = {f"{step}, ms": round(1000 * seconds, 1) for step, seconds in figures.items()}
        found.append(Ratio(what, "Pillow's decoding and encoding", value, aim, at_most=True, figures=figures))
    return found


def uploads(count: int, scale: int) -> list[Upload]:
    """Return photos, enlarged `scale` times, with the starter's edits."""
    torch.set_num_threads(1)
    bundle = load_bundle(STARTER)
    generator = GeneratorPass(None, "--bundle", bundle.version, torch.device("cpu"), "float32", 1)
    made = []
    for original in _photos(count):
        height, width = (scale * side for side in original.shape[:2])
        photo = cv2.resize(original, (width, height), interpolation=cv2.INTER_CUBIC)
        edits, _ = generator(
            [fit_inside(photo, (width, height), generator.side, generator.fit)], [CONDITIONS]
        )
        made.append(Upload(encode_image(photo), encode_edits(edits[0]), (width, height)))
    return made


def _photos(count: int) -> Iterator[np.ndarray]:
    """Yield photos, uint8 (h,w,3): real ones, or drawn ones where those are absent."""
    if PHOTOS.exists():
        yield from (sample.photo for sample in clothing(PHOTOS, count))
    else:
        yield from (
            draw_scene(f"speed-{number}", 0, long_sides=(DRAWN_SIDE,)).photo for number in range(count)
        )


def measure(photos: Sequence[Upload]) -> dict[str, float]:
    """Return core seconds per photo of each of STEPS."""
    rounds = [np.mean([_one(photo) for photo in photos], axis=0) for _ in range(ROUNDS)]
    return dict(zip(STEPS, np.min(rounds, axis=0).tolist(), strict=True))


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
