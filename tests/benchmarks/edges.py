"""How much of the old background is left in soft edges over white? Compared with targets of 400 and 1,600 pixels.

    python -m tests.benchmarks.edges [--images N] [--model BUNDLE] [--pictures FOLDER]

Drawn scenes, and objects on white (`on_white` of --objects, whose colours and masks are known) laid on the backgrounds
of --photos, on drawn and on plain ones, with a shadow; saved as JPEG as sellers would. The background is painted over
by exact mattes of 256 pixels, and by a generator's (the starter, or --model), resized to the upload as in the job:

    painted      content blended by the matte: edges keep a share of the old background
    own          the method of correction (`pipelines.inference.edits.edges`)
    two blurs    Forte and Pitié (2021) at full size: averages of 90 pixels, refined by those of 6
    multi-level  Germer et al. (2020), `estimate_foreground_ml` of pymatting, if that is installed
    true alpha   two blurs with the exact matte at full size: the remaining error is the JPEG's, not the matte's

Printed: mean CIE76 error in the band of 5 pixels to either side of the edge, and milliseconds of one core that a method
takes in addition to `painted`. --pictures writes zooms of edges. Takes some ten minutes of one core.
"""

import argparse
import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image

from model.bundle import STARTER, load_bundle
from model.edits import Edit, identity_theta
from pipelines.images.colour import rgb_to_lab
from pipelines.images.decode import decode_image
from pipelines.images.fit import fit_inside
from pipelines.inference.edits.apply import apply_edits
from pipelines.inference.edits.codec import encode_edits
from pipelines.inference.generator import GeneratorPass
from pipelines.synthesis.defects.backgrounds import Backgrounds, shaded
from pipelines.synthesis.defects.foreground import (
    foreground,
    on_white,
    over,
    soft_edges,
    with_holes,
    without_specks,
)
from pipelines.synthesis.products import draw_scene
from tests.benchmarks.timing import timed

SIZES = (400, 1600)
SIDE, BAND = 256, 5
QUALITY, SEED = 92, 7
PHOTOS = 24  # number of photos whose backgrounds are laid behind objects
BACKGROUND = (0, 0)  # conditions of the starter's label map

try:
    from pymatting import estimate_foreground_ml as multi_level
except ImportError:
    multi_level = None


class Case(NamedTuple):
    """An upload with its exact target. upload, target: uint8 (H,W,3). alpha: uint8 (H,W), 255 is product."""

    upload: NDArray[np.uint8]
    target: NDArray[np.uint8]
    alpha: NDArray[np.uint8]


def drawn(number: int, size: int) -> Case:
    scene = draw_scene(f"edges-{number}", SEED, long_sides=(size,))
    return Case(_jpeg(scene.photo), scene.product, np.rint(scene.mask * 255).astype(np.uint8))


class Objects:
    """Objects on white, laid on other backgrounds."""

    def __init__(self, objects: Path, photos: Path) -> None:
        table = pq.read_table(
            objects, filters=[("on_white", "=", True)], columns=["image_id", "image", "mask"]
        )
        self._rows = table.sort_by("image_id")
        photo_rows = pq.read_table(photos, columns=["image", "mask"]).slice(0, PHOTOS).to_pylist()
        self._backgrounds = Backgrounds.from_photos(
            (decode_image(row["image"]), _mask(row["mask"])) for row in photo_rows
        )

    def __call__(self, number: int, size: int) -> Case:
        row = self._rows.slice(7 * number % len(self._rows), 1).to_pylist()[0]
        image, mask = decode_image(row["image"]), _mask(row["mask"])
        alpha = with_holes(image, without_specks(soft_edges(image, mask)))
        own = foreground(image, alpha, background=255)
        scale = size / max(alpha.shape)
        shape = round(alpha.shape[1] * scale), round(alpha.shape[0] * scale)
        own, alpha = (cv2.resize(part, shape, interpolation=cv2.INTER_CUBIC) for part in (own, alpha))
        rng = np.random.default_rng([SEED, number])
        background = shaded(self._backgrounds.draw(*shape, rng), alpha, rng)
        return Case(_jpeg(over(own, alpha, background)), on_white(own, alpha), alpha)


def edits(case: Case, generator: GeneratorPass) -> Iterator[tuple[str, list[dict[str, bytes]]]]:
    small = cv2.resize(case.alpha, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    matte = torch.from_numpy(1 - small)[None, None]
    yield "exact", encode_edits(Edit(identity_theta(1), torch.ones(1, 3, SIDE, SIDE), matte))
    size = case.upload.shape[1], case.upload.shape[0]
    answers, _ = generator([fit_inside(case.upload, size, generator.side, generator.fit)], [BACKGROUND])
    yield "generator", encode_edits(answers[0])


def ways(case: Case, values: list[dict[str, bytes]]) -> Iterator[tuple[str, NDArray[np.uint8], float]]:
    """Yield each method's name, result and seconds of one core."""
    painted, plain = timed(lambda: apply_edits(case.upload, values))
    yield "painted", painted.image, 0.0
    own, seconds = timed(lambda: apply_edits(case.upload, values, [True]))
    yield "own", own.image, seconds - plain
    alpha = 255 - painted.matte
    blurred, seconds = timed(lambda: on_white(two_blurs(case.upload, alpha), alpha))
    yield "two blurs", blurred, seconds
    if multi_level is not None:
        solved, seconds = timed(lambda: multi_level(case.upload / 255, alpha / 255))
        yield "multi-level", on_white(np.rint(solved * 255).clip(0, 255).astype(np.uint8), alpha), seconds
    yield "true alpha", on_white(two_blurs(case.upload, case.alpha), case.alpha), 0.0


def two_blurs(image: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    mixed, share = image.astype(np.float32), alpha[..., None].astype(np.float32) / 255
    product, background = mixed, mixed
    for reach in (90, 6):
        near, behind = _mean(product, share, reach), _mean(background, 1 - share, reach)
        product = np.clip(near + share * (mixed - share * near - (1 - share) * behind), 0, 255)
        background = behind
    return np.rint(product).astype(np.uint8)


def _mean(colours: NDArray[np.float32], share: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    total = cv2.blur(share, (reach, reach))[..., None] + np.float32(1e-5)
    return cv2.blur(colours * share, (reach, reach)) / total


def error(case: Case, image: NDArray[np.uint8]) -> float:
    """Return the mean CIE76 difference to the target in the band around the edge."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BAND + 1, 2 * BAND + 1))
    band = cv2.morphologyEx((case.alpha > 127).view(np.uint8), cv2.MORPH_GRADIENT, disc) > 0
    one, other = (rgb_to_lab(part[band][None]) for part in (image, case.target))
    return float(np.linalg.norm(one - other, axis=-1).mean())


def _jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return np.array(Image.open(buffer))


def _mask(data: bytes) -> NDArray[np.uint8]:
    return np.array(Image.open(io.BytesIO(data)).convert("L"))


def _zoom(case: Case, results: list[NDArray[np.uint8]]) -> Image.Image:
    """Return 80 pixels around a point of the edge, three times as large: the upload, each result, the target."""
    rows, columns = np.nonzero((case.alpha > 64) & (case.alpha < 192))
    index = len(rows) // 3
    top, left = (max(0, int(middle) - 40) for middle in (rows[index], columns[index]))
    crops = [image[top : top + 80, left : left + 80] for image in (case.upload, *results, case.target)]
    return Image.fromarray(np.hstack(crops).repeat(3, 0).repeat(3, 1))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5, help="of each kind and size")
    parser.add_argument("--model", type=Path, default=STARTER, help="folder of a bundle")
    parser.add_argument("--objects", type=Path, default=Path("../shared/data/objects.parquet"))
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos.parquet"))
    parser.add_argument("--pictures", type=Path, help="folder for zooms of edges")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    version = load_bundle(args.model).version
    generator = GeneratorPass(str(args.model), "--model", version, torch.device("cpu"), "float32", 1)
    kinds: dict[str, Callable[[int, int], Case]] = {"drawn": drawn}
    if args.objects.exists() and args.photos.exists():
        kinds["objects"] = Objects(args.objects, args.photos)
    first = drawn(0, SIZES[0])
    list(ways(first, next(edits(first, generator))[1]))  # warm up: first calls take longer
    print(
        f"{args.images} images each; mean CIE76 in the band of {BAND} pixels around the edge; ms of one core"
    )
    for kind, make in kinds.items():
        for size in SIZES:
            measurements: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
            for number in range(args.images):
                case = make(number, size)
                for source, values in edits(case, generator):
                    results = list(ways(case, values))
                    for way, image, seconds in results:
                        measurements[source, way].append((error(case, image), 1000 * seconds))
                    if args.pictures:
                        args.pictures.mkdir(parents=True, exist_ok=True)
                        zoom = _zoom(case, [image for _, image, _ in results])
                        zoom.save(args.pictures / f"{kind}-{size}-{number}-{source}.png")
            for (source, way), measured in measurements.items():
                wrong, cost = np.mean(measured, axis=0)
                print(f"{kind:9}{size:6} {source:11}{way:13}{wrong:7.2f}{cost:8.0f}", flush=True)


if __name__ == "__main__":
    main()
