"""A drawn catalog, as sellers and a defect detector might make it, with its exact ground truth.

Every row depends only on the seed and the row's number, and files are named after the numbers in them. So the same
settings give the same bytes for any parallelism, and a retried task overwrites its own files.

    catalog/    CATALOG rows: defects, clean images, two defects at once, odd encodings, broken files
    truth/      TRUTH rows for the same ids: the product upright on white, its defects
    reference/  REFERENCE rows: other products, clean, for FID and KID
    photos/     PHOTOS rows: yet other products with masks, for training
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.schemas import CATALOG, REFERENCE
from pipelines.sample_catalog.encoding import BROKEN, broken_upload, encode_jpeg, encode_mask, encode_upload
from pipelines.synthesis.defects import add_watermark, rotate
from pipelines.synthesis.products import Scene, draw_scene

#: Ground truth of the catalog's rows. `target` and `defects` are null for broken files.
TRUTH = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("target", pa.binary()),  # JPEG, quality 95, 4:4:4, with the size of the upright upload
        ("defects", pa.list_(pa.string())),
        ("tilt_degrees", pa.float32()),  # counter-clockwise about the centre; null if the product is upright
        ("product_type", pa.string()),
        ("encoding", pa.string()),  # one of encoding.ENCODINGS; null for broken files
        ("broken", pa.string()),  # one of encoding.BROKEN, or null
        ("label_error", pa.string()),  # 'missed', 'spurious' or null
    ]
)

#: Training material, in the columns that jobs/prepare_dataset.py reads.
PHOTOS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("product_type", pa.string()),
        ("image", pa.binary()),
        ("mask", pa.binary()),  # 8-bit grey PNG of the photo's size: 255 is product
        ("mask_uncertain_fraction", pa.float32()),  # share of pixels with a mask value in (0.1, 0.9)
        ("mask_area_fraction", pa.float32()),  # share of pixels above 0.5
    ]
)

SCHEMAS = {"catalog": CATALOG, "truth": TRUTH, "reference": REFERENCE, "photos": PHOTOS}

DEFECTS = ("non_white_background", "watermark", "wrong_angle")
#: Combinations of defects and their shares; the other uploads are clean.
MIX: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.25, ("non_white_background",)),
    (0.25, ("watermark",)),
    (0.24, ("wrong_angle",)),
    (0.04, ("wrong_angle", "watermark")),
    (0.04, ("wrong_angle", "non_white_background")),
    (0.04, ("watermark", "non_white_background")),
)
MIN_TILT_DEGREES, MAX_TILT_DEGREES = 8.0, 30.0
#: Shares of rows with a wrong label, and of rows with a label below the usual threshold of 0.5.
WRONG_LABELS, WEAK_LABELS = 0.03, 0.25
UNKNOWN_PRODUCT_TYPES = 0.04

#: Rows that are broken in every catalog, so that even the smallest demo has each kind.
FIRST_BROKEN = {6: "corrupt", 14: "empty", 22: "missing_file", 38: "truncated", 46: "html", 54: "no_source"}
#: Rows with an encoding that is rare otherwise.
FIRST_ENCODINGS = {3: "exif", 10: "png", 17: "cmyk", 25: "alpha"}
ENCODING_SHARES = {"jpeg": 0.855, "png": 0.08, "exif": 0.05, "cmyk": 0.0075, "alpha": 0.0075}

#: Above this number of parts, several share a Ray block, because a block costs some 60 ms.
MAX_BLOCKS = 2000

#: Successive multiples, modulo 1, cover [0, 1) evenly, so that small catalogs have every combination.
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class SampleSettings:
    """The numbers of things to draw. Raises ConfigurationError for numbers out of range."""

    images: int  # rows of the catalog, broken ones included
    photos: int  # rows of training material
    reference: int  # clean images to compare with
    seed: int = 0
    broken: float = 0.005  # share of broken files besides FIRST_BROKEN; 0: none at all

    def __post_init__(self) -> None:
        """Raise ConfigurationError, naming the flag, for a number out of range."""
        flags = {
            "--images": self.images,
            "--training-photos": self.photos,
            "--reference-images": self.reference,
        }
        for flag, count in flags.items():
            if not 0 <= count <= 10**9:
                raise ConfigurationError(f"{flag} must be between 0 and 10^9, not {count}")
        if not any(flags.values()):
            raise ConfigurationError(f"nothing to draw: give one of {', '.join(flags)} above 0")
        if not 0 <= self.broken <= 1:
            raise ConfigurationError(f"--broken is a share between 0 and 1, not {self.broken}")


@dataclass(frozen=True)
class Part:
    """Consecutive rows that make one file of each of `kinds`."""

    kinds: tuple[str, ...]
    number: int
    start: int
    stop: int


def count_parts(settings: SampleSettings) -> int:
    """Return the number of parts; `find_part` returns each."""
    return sum(-(-rows // size) for _, rows, size in _sections(settings))


def find_part(number: int, settings: SampleSettings) -> Part:
    """Return part `number`, counted over all sections. Raises IndexError beyond the last."""
    for kinds, rows, size in _sections(settings):
        parts = -(-rows // size)
        if number < parts:
            return Part(kinds, number, number * size, min(rows, (number + 1) * size))
        number -= parts
    raise IndexError(number)


def _sections(settings: SampleSettings) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Yield (kinds, rows, rows per part): parts are small enough to share work and to fit in memory."""
    for kinds, rows in (
        (("catalog", "truth"), settings.images),
        (("reference",), settings.reference),
        (("photos",), settings.photos),
    ):
        yield kinds, rows, min(256, max(8, -(-rows // 16)))


def part_rows(part: Part, settings: SampleSettings) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of `part`, one list for each of its kinds; see SCHEMAS."""
    makers = {"catalog": catalog_rows, "reference": reference_rows, "photos": photo_rows}
    rows = [makers[part.kinds[0]](index, settings) for index in range(part.start, part.stop)]
    return {kind: [row[kind] for row in rows] for kind in part.kinds}


def catalog_rows(index: int, settings: SampleSettings) -> dict[str, dict[str, Any]]:
    """Return row `index` of the catalog and its truth."""
    image_id = f"item-{index:07d}"
    rng = _generator(image_id, settings.seed)
    defects = _defects_of(index, settings.seed)
    broken = _broken_kind(index, settings)
    labels, label_error = _labels(defects, rng)
    source: dict[str, Any] = {"image": None, "uri": None}
    truth: dict[str, Any] = {"label_error": label_error, "broken": broken}
    if broken:
        scene = draw_scene(image_id, settings.seed)
        source = broken_upload(broken, image_id, scene.photo, rng)
    else:
        scene, upload, degrees = _defective(image_id, settings.seed, defects, rng)
        encoding = FIRST_ENCODINGS.get(index) or str(
            rng.choice(list(ENCODING_SHARES), p=list(ENCODING_SHARES.values()))
        )
        source["image"] = encode_upload(upload, encoding, rng)
        target = encode_jpeg(scene.product, 95, subsampling=0)
        truth |= {"target": target, "defects": list(defects), "tilt_degrees": degrees, "encoding": encoding}
    known = scene.product_type if rng.random() >= UNKNOWN_PRODUCT_TYPES else None
    row = {"image_id": image_id, "labels": labels, "product_type": known, **source}
    truth = dict.fromkeys(TRUTH.names) | truth
    return {"catalog": row, "truth": truth | {"image_id": image_id, "product_type": scene.product_type}}


def reference_rows(index: int, settings: SampleSettings) -> dict[str, dict[str, Any]]:
    """Return clean image `index`, of a product that is not in the catalog."""
    image_id = f"reference-{index:07d}"
    scene = draw_scene(image_id, settings.seed)
    quality = int(_generator(image_id, settings.seed).integers(80, 96))
    return {"reference": {"image_id": image_id, "image": encode_jpeg(scene.product, quality), "defect": None}}


def photo_rows(index: int, settings: SampleSettings) -> dict[str, dict[str, Any]]:
    """Return photo `index` with its mask, of a product that is neither in the catalog nor in the reference."""
    image_id = f"photo-{index:07d}"
    scene = draw_scene(image_id, settings.seed)
    quality = int(_generator(image_id, settings.seed).integers(80, 96))
    row = {
        "image_id": image_id,
        "product_type": scene.product_type,
        "image": encode_jpeg(scene.photo, quality),
        "mask": encode_mask(scene.mask),
        "mask_uncertain_fraction": float(((scene.mask > 0.1) & (scene.mask < 0.9)).mean()),
        "mask_area_fraction": float((scene.mask > 0.5).mean()),
    }
    return {"photos": row}


def _generator(image_id: str, seed: int) -> np.random.Generator:
    """Return the random generator of everything about a row except its drawing."""
    digest = hashlib.sha256(f"upload/{seed}/{image_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _defects_of(index: int, seed: int) -> tuple[str, ...]:
    position = ((index + 0.5) * _GOLDEN + _generator("mix", seed).random()) % 1.0
    for share, defects in MIX:
        if position < share:
            return defects
        position -= share
    return ()


def _broken_kind(index: int, settings: SampleSettings) -> str | None:
    if not settings.broken:
        return None
    if index in FIRST_BROKEN:
        return FIRST_BROKEN[index]
    period = max(1, round(1 / settings.broken))
    return BROKEN[index // period % len(BROKEN)] if index % period == period - 1 else None


def _defective(
    image_id: str, seed: int, defects: tuple[str, ...], rng: np.random.Generator
) -> tuple[Scene, np.ndarray, float | None]:
    """Return the true scene, the upload (H, W, 3) with `defects`, and its tilt in degrees or None."""
    if "wrong_angle" not in defects:
        scene = draw_scene(image_id, seed)
        upload, degrees = (scene.photo if "non_white_background" in defects else scene.product), None
    else:
        degrees = float(rng.uniform(MIN_TILT_DEGREES, MAX_TILT_DEGREES) * rng.choice([-1, 1]))
        scene = draw_scene(image_id, seed, room_degrees=MAX_TILT_DEGREES)
        if "non_white_background" in defects:  # the product is tilted; the floor is not
            upload = draw_scene(image_id, seed, degrees, MAX_TILT_DEGREES).photo
        else:
            upload = rotate(scene.product, degrees)
    return scene, add_watermark(upload, rng) if "watermark" in defects else upload, degrees


def _labels(defects: tuple[str, ...], rng: np.random.Generator) -> tuple[list[dict[str, Any]], str | None]:
    """Return a detector's labels of an image with `defects`, and 'missed' or 'spurious' if they are wrong."""
    scores = {name: max(0.52, rng.beta(9.0, 1.6)) for name in defects}
    others = [name for name in DEFECTS if name not in defects]
    error = None
    if rng.random() < WRONG_LABELS:
        if defects and rng.random() < 0.5:
            error, name = "missed", defects[int(rng.integers(len(defects)))]
            scores[name] = min(0.48, rng.beta(3.0, 5.0))
        else:
            error, name = "spurious", others[int(rng.integers(len(others)))]
            scores[name] = max(0.52, rng.beta(6.0, 3.5))
            others.remove(name)
    if others and rng.random() < WEAK_LABELS:
        scores[others[int(rng.integers(len(others)))]] = min(0.48, rng.beta(1.6, 6.0))
    if not any(score > 0.5 for score in scores.values()):
        scores["clean"] = max(0.52, rng.beta(9.0, 1.6))
    order = sorted(scores, key=lambda name: -scores[name])
    return [{"label": name, "score": round(float(scores[name]), 4)} for name in order], error


def part_uri(output: str, kind: str, part: Part) -> str:
    """Return the URI of the rows of `part` that are of `kind`."""
    return storage.join(output, kind, f"part-{part.number:05d}.parquet")


def write_part(number: int, settings: SampleSettings, output: str) -> Counter[str]:
    """Draw and write part `number`; return its number of rows of each kind."""
    part = find_part(number, settings)
    counts: Counter[str] = Counter()
    for kind, rows in part_rows(part, settings).items():
        buffer = io.BytesIO()
        table = pa.Table.from_pylist(rows, SCHEMAS[kind])
        # Encoded images do not compress; small row groups let a reader start without holding the file.
        pq.write_table(table, buffer, compression="none", row_group_size=64)
        storage.write_bytes(part_uri(output, kind, part), buffer.getvalue())
        counts[kind] += len(rows)
    return counts


def write_catalog(
    settings: SampleSettings, output: str, on_progress: Callable[[int], None] = lambda rows: None
) -> Counter[str]:
    """Draw everything with Ray Data and write it below `output`; return the number of rows of each kind.

    Ray must be running. on_progress is called with the rows of each finished part. Memory is that of a part per CPU,
    for any size of the catalog; the driver receives counts.
    """
    import ray.data

    parts = count_parts(settings)
    numbers = ray.data.range(parts, override_num_blocks=min(parts, MAX_BLOCKS))
    write = partial(_write_batch, settings=settings, output=storage.absolute(output))
    totals: Counter[str] = Counter()
    for row in numbers.map_batches(write, batch_size=1, batch_format="pyarrow").iter_rows():
        counts = Counter(json.loads(row["counts"]))
        totals += counts
        on_progress(counts.total() - counts["truth"])
    return totals


def _write_batch(batch: pa.Table, settings: SampleSettings, output: str) -> pa.Table:
    counts = [dict(write_part(number.as_py(), settings, output)) for number in batch["id"]]
    return pa.table({"counts": [json.dumps(count) for count in counts]})


def summary(settings: SampleSettings, counts: Counter[str]) -> str:
    """Return a summary as JSON: the settings, from which the catalog can be drawn again, and the rows of each kind."""
    return json.dumps({"settings": asdict(settings), "rows": counts}, indent=2, sort_keys=True) + "\n"
