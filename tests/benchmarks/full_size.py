"""How good are corrections at full size, and what do they cost? Compared with targets of 1,000 to 2,000 pixels.

    python -m tests.benchmarks.full_size [--scenes N] [--pictures FOLDER]

Drawn scenes, saved as JPEG as sellers would, are corrected from edits of 128 pixels: exact ones (the true mask, mark or
turn at that size), the same answer as a repainted image (the direct head), and the starter's. Three methods enlarge
them:

    plain     the corrected small image, enlarged bicubically
    bilinear  content and matte enlarged bilinearly, the upload moved bilinearly (`model.edits.apply_edit`)
    guided    the method of correction

Printed: PSNR in dB, mean over the scenes, of the whole image and of the important band: 1% of the longer side around
the product's outline, or the area under a mark. Then milliseconds of one core per megapixel. --pictures writes crops:
the upload, the three results, the matte and the target. Takes some ten minutes of one core.
"""

import argparse
import io
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.bundle import STARTER, load_bundle
from model.edits import Edit, apply_edit, identity_theta
from pipelines.images.pixels import to_tensor, to_uint8
from pipelines.images.resize import resize_bicubic
from pipelines.inference.edits.apply import EditedImage, apply_edits
from pipelines.inference.edits.codec import decode_edit, encode_edits
from pipelines.inference.generator import GeneratorPass
from pipelines.metrics.pixel_errors import psnr
from pipelines.sample_catalog.catalog import MAX_TILT_DEGREES, MIN_TILT_DEGREES
from pipelines.synthesis.defects import add_watermark
from pipelines.synthesis.products import draw_scene

SIDE = 128
LONG_SIDES = (1024, 1280, 1536, 1792, 2000)
QUALITY = 92
SEED = 7
#: Conditions of the starter's label map.
CONDITIONS = {"background": (0, 0), "watermark": (0, 1), "angle": (1, 2)}
WAYS = ("nothing", "plain", "bilinear", "guided")


class Case(NamedTuple):
    """One task. upload, target: uint8 (H,W,3); band: bool (H,W); exact: the edit of a perfect generator."""

    task: str
    upload: NDArray[np.uint8]
    target: NDArray[np.uint8]
    band: NDArray[np.bool_]
    exact: Edit


def cases(number: int) -> Iterator[Case]:
    """Yield one scene with each defect."""
    rng = np.random.default_rng([SEED, number])
    name, still = f"full-size-{number}", identity_theta(1)
    scene = draw_scene(name, SEED, long_sides=LONG_SIDES)
    outline = _outline(scene.mask)
    white = torch.ones(1, 3, SIDE, SIDE)
    exact = Edit(still, white, _small(1 - scene.mask))
    yield Case("background", _jpeg(scene.photo), scene.product, outline, exact)

    marked = add_watermark(scene.product, rng)
    mark = np.abs(marked.astype(int) - scene.product).max(axis=2) > 2
    clean = to_tensor(resize_bicubic(scene.product, SIDE, SIDE)[None])
    exact = Edit(still, clean, _small(mark.astype(np.float32)))
    yield Case("watermark", _jpeg(marked), scene.product, mark, exact)

    degrees = float(rng.uniform(MIN_TILT_DEGREES, MAX_TILT_DEGREES) * rng.choice([-1, 1]))
    upright = draw_scene(name, SEED, 0.0, MAX_TILT_DEGREES, LONG_SIDES)
    tilted = draw_scene(name, SEED, degrees, MAX_TILT_DEGREES, LONG_SIDES)
    exact = Edit(_turn(degrees, *upright.mask.shape), white, torch.zeros(1, 1, SIDE, SIDE))
    yield Case("angle", _jpeg(tilted.product), upright.product, _outline(upright.mask), exact)


def edits(case: Case, starter: GeneratorPass) -> Iterator[tuple[str, Edit]]:
    """Yield the exact edit, also as a repainted image, and the starter's; in the 8 bits in which edits are stored."""
    small = resize_bicubic(case.upload, SIDE, SIDE)
    yield "exact", _as_stored(case.exact)
    if case.task != "angle":
        pixels = to_tensor(small[None])
        repainted = Edit(identity_theta(1), apply_edit(pixels, case.exact), torch.ones(1, 1, SIDE, SIDE))
        yield "exact, direct", _as_stored(repainted)
    answers, _ = starter([small], [CONDITIONS[case.task]])
    yield "starter", _as_stored(answers[0])


def ways(case: Case, edit: Edit) -> Iterator[tuple[str, EditedImage, float]]:
    """Yield each method's name, result and seconds of one core."""
    height, width = case.upload.shape[:2]
    nothing = np.zeros((height, width), np.uint8)
    yield "nothing", EditedImage(case.upload, nothing), 0.0
    started = time.process_time()
    small = to_uint8(apply_edit(to_tensor(resize_bicubic(case.upload, SIDE, SIDE)[None]), edit))[0]
    yield "plain", EditedImage(resize_bicubic(small, width, height), nothing), time.process_time() - started
    started = time.process_time()
    whole = to_uint8(apply_edit(to_tensor(case.upload[None]), edit))[0]
    yield "bilinear", EditedImage(whole, nothing), time.process_time() - started
    started = time.process_time()
    guided = apply_edits(case.upload, encode_edits(edit))
    yield "guided", guided, time.process_time() - started


def _as_stored(edit: Edit) -> Edit:
    return decode_edit(encode_edits(edit)[0])


def _small(share: NDArray[np.float32]) -> Tensor:
    """Average a map of shares (H,W) to (1,1,SIDE,SIDE)."""
    return F.adaptive_avg_pool2d(torch.from_numpy(share)[None, None], SIDE)


def _jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return np.array(Image.open(buffer))


def _outline(mask: NDArray[np.float32]) -> NDArray[np.bool_]:
    reach = max(mask.shape) // 100
    values = torch.from_numpy(mask)[None, None]
    spread = 2 * reach + 1
    highest, lowest = F.max_pool2d(values, spread, 1, reach), -F.max_pool2d(-values, spread, 1, reach)
    return ((highest - lowest)[0, 0] > 0.5).numpy()


def _turn(degrees: float, height: int, width: int) -> Tensor:
    """Return the theta that undoes a turn of the product, counter-clockwise about the picture's centre."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    linear = [[cosine, sine * height / width, 0.0], [-sine * width / height, cosine, 0.0]]
    return torch.tensor([linear])


def _crop(case: Case, results: dict[str, EditedImage]) -> Image.Image:
    """Return 300 pixels around a point of the band: the upload, each result, the matte, the target."""
    rows, columns = np.nonzero(case.band)
    index = len(rows) // 3
    top, left = (
        int(np.clip(middle - 150, 0, max(0, size - 300)))
        for middle, size in zip((rows[index], columns[index]), case.band.shape, strict=True)
    )
    matte = np.repeat(results["guided"].matte[..., None], 3, axis=2)
    pictures = [*(results[way].image for way in WAYS), matte, case.target]
    return Image.fromarray(np.hstack([image[top : top + 300, left : left + 300] for image in pictures]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--pictures", type=Path, help="folder for crops")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    starter = GeneratorPass(None, "--model", load_bundle(STARTER).version, cpu, "float32", 1)
    measurements: defaultdict[tuple[str, str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for number in range(args.scenes):
        for case in cases(number):
            megapixels = case.band.size / 1e6
            for source, edit in edits(case, starter):
                results = {}
                for way, result, seconds in ways(case, edit):
                    results[way] = result
                    scores = (
                        psnr(result.image, case.target),
                        psnr(result.image[case.band], case.target[case.band]),
                    )
                    measurements[case.task, source, way].append((*scores, 1000 * seconds / megapixels))
                if args.pictures:
                    args.pictures.mkdir(parents=True, exist_ok=True)
                    _crop(case, results).save(args.pictures / f"{number}-{case.task}-{source}.png")
    print(
        f"{args.scenes} scenes of {LONG_SIDES[0]} to {LONG_SIDES[-1]} pixels; PSNR in dB: whole image, band; ms/MP"
    )
    for (task, source, way), values in measurements.items():
        whole, band, cost = np.mean(values, axis=0)
        print(f"{task:12}{source:15}{way:10}{whole:7.2f}{band:7.2f}{cost:8.0f}")


if __name__ == "__main__":
    main()
