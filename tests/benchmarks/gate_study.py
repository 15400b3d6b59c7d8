"""Do the gates reject what should not be published, and nothing else? A study for people who judge pictures.

    python -m tests.benchmarks.gate_study --output FOLDER [--bundle model/starter] [--half judged]
    python -m tests.benchmarks.gate_study --output FOLDER --verdicts FOLDER/verdicts.csv

The first command corrects held-back real photos (../shared/data), all labelled non-white. It writes into FOLDER sheets
of upload above correction, numbered and sorted by gate, values.csv with the measurements of every gate, and
verdicts.csv with a line for each correction. Look at every picture and write 1 (publish) or 0 (do not) into
verdicts.csv. The second command then prints how often each gate was right; it identifies pictures by their ids. There
are five kinds of photos:

    photo        sellers' photos of clothing, unchanged
    close-up     the same, cropped so that the goods fill the frame: only the original is right
    pale on pale pale goods laid on the pale backgrounds of other photos, since sellers' photos have hardly any
    on white     products that are already on white, clothing and objects
    found        objects of many types on any background

Thresholds are chosen on `--half tuned` and judged on `--half judged`, halves by hash of the ids. A correction is judged
as it would be published: whitened and encoded. One core is enough, without Ray; it takes a second per image.
"""

import argparse
import csv
import io
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.bundle import STARTER, load_bundle
from pipelines.contracts.hashing import hash_number
from pipelines.contracts.label_map import LabelMap
from pipelines.correction.deliver.deliver import DeliverySettings, deliver
from pipelines.correction.deliver.gates import (
    CHANGED,
    EMPTY_PRODUCT,
    HOLES,
    LOST,
    NEARLY_CONSTANT,
    NOT_WHITE,
    WEAK_OUTLINE,
    GateConfig,
)
from pipelines.images.colour import rgb_to_lab
from pipelines.images.encode import encode_image
from pipelines.images.fit import fit_inside
from pipelines.images.resize import resize_bicubic
from pipelines.inference.edits.apply import apply_edits
from pipelines.inference.edits.codec import encode_edits
from pipelines.inference.generator import GeneratorPass
from pipelines.reports.pictures import picture_columns
from pipelines.synthesis.defects.backgrounds import background_of, shaded
from pipelines.synthesis.defects.foreground import foreground, over
from tests.benchmarks.starter_quality.samples import Sample, clean_objects, clothing, found_objects

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
DEFECT = "non_white_background"
#: In the order in which they judge.
GATES = (NEARLY_CONSTANT, EMPTY_PRODUCT, LOST, HOLES, NOT_WHITE, WEAK_OUTLINE, CHANGED)
SUBJECTS = PHOTO, CLOSE_UP, PALE, ON_WHITE, FOUND = "photo", "close-up", "pale on pale", "on white", "found"
#: Median CIE lightness, 0 to 100, from which goods and backgrounds are pale.
PALE_GOODS, PALE_BACKGROUND = 68.0, 75.0
#: Maximum number of subjects of each kind except photos.
EACH = 20
#: Smallest side of a close-up, pixels.
SMALLEST = 90
#: Columns of a sheet, and bands of them.
COLUMNS, BANDS = 6, 3


@dataclass(frozen=True)
class Watched(GateConfig):
    """Gates that reject nothing and record what they measure: code, value, limit, whether it is beyond the limit."""

    records: list[tuple[str, float, float, bool]] = field(default_factory=list)

    def judge(self, code: str, value: float, what: str, allowance: float = 1.0) -> None:
        """Record instead of raising."""
        limit = getattr(self, code) * allowance
        low = code in (NEARLY_CONSTANT, EMPTY_PRODUCT)
        self.records.append((code, value, limit, value <= limit if low else value > limit))


class Judged(NamedTuple):
    """One correction. upload, published: encoded; measured: value and whether it rejects, by gate."""

    subject: str
    image_id: str
    product_type: str
    upload: bytes
    published: bytes
    measured: dict[str, tuple[float, bool]]

    @property
    def code(self) -> str:
        """The first gate that rejects it, or an empty string."""
        return next((gate for gate in GATES if self.measured.get(gate, (0.0, False))[1]), "")


def subjects(photos: Path, objects: Path, half: str) -> Iterator[tuple[str, Sample]]:
    """Yield kind and product; the product's `photo` is the upload."""
    samples = [sample for sample in clothing(photos, None) if half_of(sample.image_id) == half]
    yield from ((PHOTO, sample) for sample in samples)
    close = ((sample, close_up(sample)) for sample in samples)
    close_ups = [sample._replace(photo=crop) for sample, crop in close if crop is not None]
    yield from ((CLOSE_UP, sample) for sample in close_ups[:EACH])
    yield from ((PALE, sample) for sample in pale_on_pale(samples)[:EACH])
    things = [sample for sample in clean_objects(objects, None) if half_of(sample.image_id) == half]
    for group in (samples[::-1], things):
        white = [sample._replace(photo=sample.white) for sample in group if sample.white is not None]
        yield from ((ON_WHITE, sample) for sample in white[:EACH])
    others = [sample for sample in found_objects(objects, None) if half_of(sample.image_id) == half]
    yield from ((FOUND, sample) for sample in others[:EACH])


def half_of(image_id: str) -> str:
    """Return 'tuned' or 'judged', by hash."""
    return ("tuned", "judged")[hash_number("half", image_id) % 2]


def close_up(sample: Sample) -> NDArray[np.uint8] | None:
    """Return the largest square that is all product, uint8 (S,S,3); None if it is too small."""
    if sample.mask is None:
        return None
    padded = np.pad((sample.mask > 127).astype(np.uint8), 1)
    reach = cv2.distanceTransform(padded, cv2.DIST_C, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(reach.argmax()), reach.shape)
    half = int(reach[y, x]) - 1
    if 2 * half < SMALLEST:
        return None
    return np.ascontiguousarray(sample.photo[y - half : y + half, x - half : x + half])


def pale_on_pale(samples: Sequence[Sample]) -> list[Sample]:
    """Return pale goods on pale backgrounds of the other photos, with a shadow."""
    trusted = [(sample, sample.mask) for sample in samples if sample.mask is not None]
    goods = [pair for pair in trusted if _lightness(pair[0].photo[pair[1] > 127]) >= PALE_GOODS]
    backgrounds = [
        background
        for sample, mask in trusted
        if (background := background_of(sample.photo, mask)) is not None
    ]
    pale = [
        background for background in backgrounds if _lightness(background.reshape(-1, 3)) >= PALE_BACKGROUND
    ]
    made = []
    for number, (sample, mask) in enumerate(goods):
        rng = np.random.default_rng(hash_number("pale on pale", sample.image_id))
        background = resize_bicubic(pale[number % len(pale)], mask.shape[1], mask.shape[0])
        laid = over(foreground(sample.photo, mask), mask, shaded(background, mask, rng))
        made.append(sample._replace(photo=laid))
    return made


def _lightness(pixels: NDArray[np.uint8]) -> float:
    """Return the median CIE lightness of pixels uint8 (N,3)."""
    return float(np.median(rgb_to_lab(pixels[None])[..., 0])) if len(pixels) else 0.0


def judge(
    generator: GeneratorPass, conditions: tuple[int, int], subject: str, sample: Sample
) -> tuple[Judged, float]:
    """Return one correction with the measurements of all gates, and the seconds of one core that they took."""
    upload = sample.photo
    size = upload.shape[1], upload.shape[0]
    edits, _ = generator([fit_inside(upload, size, generator.side, generator.fit)], [conditions])
    stored = encode_edits(edits[0])
    edited = apply_edits(upload, stored, [True])
    encoded = encode_image(upload, "jpeg", 95)
    row: dict[str, Any] = {"upload": encoded, "defects": [DEFECT], "edits": stored, "product_type": None}
    off = GateConfig(**dict.fromkeys(GATES))
    started = time.process_time()
    deliver(upload, edited, row, DeliverySettings(gates=off))
    without = time.process_time() - started
    watched = Watched(defect_remains={})
    started = time.process_time()
    delivered = deliver(upload, edited, row, DeliverySettings(gates=watched))
    seconds = time.process_time() - started - without
    measured = {code: (value, beyond) for code, value, _, beyond in watched.records}
    judged = Judged(subject, sample.image_id, sample.product_type, encoded, delivered.encoded, measured)
    return judged, seconds


def write(folder: Path, judged: Sequence[Judged]) -> None:
    """Write the sheets, values.csv and an empty verdicts.csv."""
    order = sorted(judged, key=lambda one: (one.code == "", one.code, one.subject))
    per_sheet = COLUMNS * BANDS
    for start in range(0, len(order), per_sheet):
        part = list(enumerate(order))[start : start + per_sheet]
        bands = [_band(part[first : first + COLUMNS]) for first in range(0, len(part), COLUMNS)]
        sheet = Image.new("RGB", (bands[0].width, sum(band.height for band in bands)), "white")
        top = 0
        for band in bands:
            sheet.paste(band, (0, top))
            top += band.height
        sheet.save(folder / f"sheet-{start // per_sheet:02}.png")
    with (folder / "values.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "image_id", "subject", "product_type", "code", *GATES, "rejecting"])
        for number, one in enumerate(order):
            values = [f"{one.measured[gate][0]:.4g}" if gate in one.measured else "" for gate in GATES]
            rejecting = " ".join(gate for gate, (_, beyond) in one.measured.items() if beyond)
            writer.writerow(
                [number, one.image_id, one.subject, one.product_type, one.code, *values, rejecting]
            )
    with (folder / "verdicts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "subject", "image_id", "publish"])
        writer.writerows([number, one.subject, one.image_id, ""] for number, one in enumerate(order))


def _band(part: Sequence[tuple[int, Judged]]) -> Image.Image:
    captions = [f"{number} {one.subject} {one.code}" for number, one in part]
    sheet = picture_columns([(one.upload, one.published) for _, one in part], captions)
    return Image.open(io.BytesIO(sheet or b"")).convert("RGB")


def print_verdicts(folder: Path, verdicts: Path) -> None:
    """Print how often each gate was right, according to the verdicts."""
    with verdicts.open(newline="") as file:
        publish = {_key(row): row["publish"] == "1" for row in csv.DictReader(file) if row["publish"]}
    with (folder / "values.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if _key(row) in publish]
    print(f"{len(rows)} corrections judged, {sum(publish.values())} of them to publish")
    print("| gate | rejected first | rightly | rejected by it at all | rightly | by it alone | rightly |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for gate in GATES:
        first = [row for row in rows if row["code"] == gate]
        beyond = [row for row in rows if gate in row["rejecting"].split()]
        alone = [row for row in beyond if row["rejecting"] == gate]
        cells = [cell for part in (first, beyond, alone) for cell in (len(part), _bad(part, publish))]
        print("| " + " | ".join([f"`{gate}`", *map(str, cells)]) + " |")
    accepted = [row for row in rows if not row["code"]]
    print(f"accepted: {len(accepted)}, of which should not have been: {_bad(accepted, publish)}")
    for subject in SUBJECTS:
        part = [row for row in rows if row["subject"] == subject]
        rejected = [row for row in part if row["code"]]
        passed = [row for row in part if not row["code"]]
        print(
            f"{subject}: {len(part)}; rejected {len(rejected)}, rightly {_bad(rejected, publish)}; "
            f"accepted {len(passed)}, wrongly {_bad(passed, publish)}"
        )


def _key(row: dict[str, str]) -> tuple[str, str]:
    """Return the key of a verdict, which stays valid if other thresholds number the sheets differently."""
    return row["subject"], row["image_id"]


def _bad(rows: Iterable[dict[str, str]], publish: dict[tuple[str, str], bool]) -> int:
    return sum(not publish[_key(row)] for row in rows)


def main() -> None:
    """Write the sheets, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder; removed first, but with --verdicts"
    )
    parser.add_argument("--bundle", default=str(STARTER), help="folder of the model bundle")
    parser.add_argument("--half", choices=("judged", "tuned"), default="judged")
    parser.add_argument("--photos", type=Path, default=DATA / "photos.parquet")
    parser.add_argument("--objects", type=Path, default=DATA / "objects.parquet")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only one in N, for a try")
    parser.add_argument("--verdicts", type=Path, help="filled in verdicts: print what the gates got right")
    args = parser.parse_args()
    if args.verdicts:
        print_verdicts(args.output, args.verdicts)
        return
    if not args.photos.exists():
        print(f"{args.photos} is not there: nothing to look at")
        return
    torch.set_num_threads(1)
    bundle = load_bundle(Path(args.bundle))
    conditions = LabelMap.parse(bundle.label_map, args.bundle).conditions[DEFECT]
    generator = GeneratorPass(args.bundle, "--bundle", bundle.version, torch.device("cpu"), "float32", 1)
    shutil.rmtree(args.output, ignore_errors=True)
    args.output.mkdir(parents=True)
    judged, seconds = [], []
    for subject, sample in islice(subjects(args.photos, args.objects, args.half), None, None, args.every):
        one, took = judge(generator, conditions, subject, sample)
        judged.append(one)
        seconds.append(took)
    write(args.output, judged)
    print(f"{len(judged)} corrections; gates took {1000 * np.median(seconds):.0f} ms of one core (median)")
    for code, count in Counter(one.code or "accepted" for one in judged).most_common():
        print(f"  {code}: {count}")


if __name__ == "__main__":
    main()
