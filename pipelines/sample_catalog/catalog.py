"""A catalog as sellers and a defect detector would have made it, drawn, with the exact truth beside it.

Every row is a function of the seed and of the row's number alone, and files are named after the numbers in
them: the same settings give the same bytes whatever the parallelism, and a task that is tried again writes
over its own.

    catalog/    CATALOG rows: defects, clean images, two defects at once, odd encodings, broken files
    truth/      TRUTH rows for the same ids: the product upright on white, its defects
    reference/  REFERENCE rows: other products, clean, for FID and KID
    photos/     PHOTOS rows: yet other products with masks, to train on
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
from pipelines.contracts.schemas import CATALOG, REFERENCE
from pipelines.sample_catalog.encoding import BROKEN, broken_upload, encode_jpeg, encode_mask, encode_upload
from pipelines.storage import objects as storage
from pipelines.synthesis.defects import add_watermark, rotate
from pipelines.synthesis.products import Scene, draw_scene

#: Ground truth of the catalog's rows. `target` and `defects` are null for broken files.
TRUTH = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("target", pa.binary()),  # JPEG, quality 95, 4:4:4, of the upload's size as it is looked at
        ("defects", pa.list_(pa.string())),
        (
            "tilt_degrees",
            pa.float32(),
        ),  # counter-clockwise about the centre; null where the product is upright
        ("product_type", pa.string()),
        ("encoding", pa.string()),  # of sample.encoding.ENCODINGS; null for broken files
        ("broken", pa.string()),  # of sample.encoding.BROKEN, or null
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
#: What is wrong with an upload, and how often; the rest is clean.
MIX: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.25, ("non_white_background",)),
    (0.25, ("watermark",)),
    (0.24, ("wrong_angle",)),
    (0.04, ("wrong_angle", "watermark")),
    (0.04, ("wrong_angle", "non_white_background")),
    (0.04, ("watermark", "non_white_background")),
)
MIN_TILT_DEGREES, MAX_TILT_DEGREES = 8.0, 30.0
#: Labels that say the wrong thing, and detectors' hunches below the usual threshold of 0.5.
WRONG_LABELS, HUNCHES = 0.03, 0.25
UNKNOWN_PRODUCT_TYPES = 0.04

#: Rows that are broken in every catalog of that many rows, so that the smallest demo meets each kind.
FIRST_BROKEN = {6: "corrupt", 14: "empty", 22: "missing_file", 38: "truncated", 46: "html", 54: "no_source"}
#: Rows with an encoding that is rare otherwise.
FIRST_ENCODINGS = {3: "exif", 10: "png", 17: "cmyk", 25: "alpha"}
ENCODING_SHARES = {"jpeg": 0.855, "png": 0.08, "exif": 0.05, "cmyk": 0.0075, "alpha": 0.0075}

#: Beyond this many parts, several share a Ray block: a block costs some 60 ms.
MAX_BLOCKS = 2000

_GOLDEN = (
    0.6180339887498949  # successive multiples, modulo 1, cover [0, 1) evenly: small catalogs have every mix
)


@dataclass(frozen=True)
class SampleSettings:
    """What to draw. Raises ConfigurationError for numbers that make no sense."""

    images: int  # rows of the catalog, broken ones included
    photos: int  # rows of training material
    reference: int  # clean images to compare with
    seed: int = 0
    broken: float = 0.005  # share of broken files beyond the first rows'; 0: none at all

    def __post_init__(self) -> None:
        """Check, naming the flags."""
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
    """How many parts there are; `find_part` gives each."""
    return sum(-(-rows // size) for _, rows, size in _sections(settings))


def find_part(number: int, settings: SampleSettings) -> Part:
    """The part `number`, counted over all sections. Raises IndexError beyond the last."""
    for kinds, rows, size in _sections(settings):
        parts = -(-rows // size)
        if number < parts:
            return Part(kinds, number, number * size, min(rows, (number + 1) * size))
        number -= parts
    raise IndexError(number)


def _sections(settings: SampleSettings) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """(kinds, rows, rows per part): parts are small enough to share work and to be held whole in memory."""
    for kinds, rows in (
        (("catalog", "truth"), settings.images),
        (("reference",), settings.reference),
        (("photos",), settings.photos),
    ):
        yield kinds, rows, min(256, max(8, -(-rows // 16)))


def part_rows(part: Part, settings: SampleSettings) -> dict[str, list[dict[str, Any]]]:
    """The rows of `part`, one list for each of its kinds; see SCHEMAS."""
    makers = {"catalog": catalog_rows, "reference": reference_rows, "photos": photo_rows}
    rows = [makers[part.kinds[0]](index, settings) for index in range(part.start, part.stop)]
    return {kind: [row[kind] for row in rows] for kind in part.kinds}


def catalog_rows(index: int, settings: SampleSettings) -> dict[str, dict[str, Any]]:
    """Row `index` of the catalog and its truth."""
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
    """Clean image `index`, of a product that the catalog does not have."""
    image_id = f"reference-{index:07d}"
    scene = draw_scene(image_id, settings.seed)
    quality = int(_generator(image_id, settings.seed).integers(80, 96))
    return {"reference": {"image_id": image_id, "image": encode_jpeg(scene.product, quality), "defect": None}}


def photo_rows(index: int, settings: SampleSettings) -> dict[str, dict[str, Any]]:
    """Photo `index` with its mask, of a product that neither catalog nor reference has."""
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
    """Randomness of everything about a row except its drawing."""
    digest = hashlib.sha256(f"upload/{seed}/{image_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _defects_of(index: int, seed: int) -> tuple[str, ...]:
    place = ((index + 0.5) * _GOLDEN + _generator("mix", seed).random()) % 1.0
    for share, defects in MIX:
        if place < share:
            return defects
        place -= share
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
    """The scene that is the truth, the upload (H, W, 3) with `defects`, and by how much it is tilted."""
    if "wrong_angle" not in defects:
        scene = draw_scene(image_id, seed)
        upload, degrees = (scene.photo if "non_white_background" in defects else scene.product), None
    else:
        degrees = float(rng.uniform(MIN_TILT_DEGREES, MAX_TILT_DEGREES) * rng.choice([-1, 1]))
        scene = draw_scene(image_id, seed, room_degrees=MAX_TILT_DEGREES)
        if "non_white_background" in defects:  # the product lies askew; the floor does not
            upload = draw_scene(image_id, seed, degrees, MAX_TILT_DEGREES).photo
        else:
            upload = rotate(scene.product, degrees)
    return scene, add_watermark(upload, rng) if "watermark" in defects else upload, degrees


def _labels(defects: tuple[str, ...], rng: np.random.Generator) -> tuple[list[dict[str, Any]], str | None]:
    """What a detector says of an image with `defects`, and 'missed' or 'spurious' where it is mistaken."""
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
    if others and rng.random() < HUNCHES:
        scores[others[int(rng.integers(len(others)))]] = min(0.48, rng.beta(1.6, 6.0))
    if not any(score > 0.5 for score in scores.values()):
        scores["clean"] = max(0.52, rng.beta(9.0, 1.6))
    order = sorted(scores, key=lambda name: -scores[name])
    return [{"label": name, "score": round(float(scores[name]), 4)} for name in order], error


def part_uri(output: str, kind: str, part: Part) -> str:
    """Where the rows of `part` go that are of `kind`."""
    return storage.join(output, kind, f"part-{part.number:05d}.parquet")


def write_part(number: int, settings: SampleSettings, output: str) -> Counter[str]:
    """Draw and write part `number` whole. Returns how many rows of each kind it has."""
    part = find_part(number, settings)
    counts: Counter[str] = Counter()
    for kind, rows in part_rows(part, settings).items():
        buffer = io.BytesIO()
        table = pa.Table.from_pylist(rows, SCHEMAS[kind])
        # Encoded images do not compress; small row groups let a reader begin without holding the file.
        pq.write_table(table, buffer, compression="none", row_group_size=64)
        storage.write_bytes(part_uri(output, kind, part), buffer.getvalue())
        counts[kind] += len(rows)
    return counts


def write_catalog(
    settings: SampleSettings, output: str, on_progress: Callable[[int], None] = lambda rows: None
) -> Counter[str]:
    """Draw everything with Ray Data and write it below `output`; each part is a task's work or a share of it.

    Ray must be up. on_progress is told the rows of each part as it is done. Returns the rows of each kind.
    Memory is that of a part per CPU, whatever the size of the catalog; the driver sees counts.
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
    """What was drawn, as JSON: the settings by which it can be drawn again, and the rows of each kind."""
    return json.dumps({"settings": asdict(settings), "rows": counts}, indent=2, sort_keys=True) + "\n"
