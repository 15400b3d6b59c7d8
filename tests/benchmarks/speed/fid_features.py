"""Seconds of the job with FID and KID, against the job without them plus pytorch-fid's features of the same images.

For pytorch-fid, which batches only pictures of one size, they are squares of 256 pixels before the clock starts. Its
uploads are other drawn scenes, as many as the job corrected.
"""

import multiprocessing
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from pytorch_fid.fid_score import get_activations

from pipelines.metrics.fid.inception import FEATURE_DIMENSION, IMAGE_SIDE, find_weights, load_features
from pipelines.synthesis.products import draw_scene
from tests.benchmarks.speed.job import job, write_catalog
from tests.benchmarks.speed.ratio import Ratio


def ratios(small: bool) -> list[Ratio]:
    """Return how long the two take one after the other, in relation to the job with both."""
    images, cores = 8 if small else 200, multiprocessing.cpu_count()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("uploads", "clean"):
            (folder / name).mkdir()
        write_catalog(folder / "catalog.parquet", images)
        for number in range(images):
            scene = draw_scene(f"reference-{number}", 0)
            Image.fromarray(scene.photo).save(folder / "uploads" / f"{number}.jpg")
            Image.fromarray(scene.product).save(folder / "clean" / f"{number}.jpg")
        without = job(folder / "catalog.parquet", folder / "without", None)
        reference = folder / "reference.parquet"
        pq.write_table(
            pa.table({"image": [path.read_bytes() for path in (folder / "clean").iterdir()]}), reference
        )
        both = job(folder / "catalog.parquet", folder / "with", None, "--reference", str(reference))
        shown = [sorted((folder / name).rglob("*.jpg")) for name in ("with/images", "clean", "uploads")]
        shown[-1] = shown[-1][
            : len(shown[0])
        ]  # the job measures uploads that were corrected, before and after
        alone = feature_seconds([path for one in shown for path in one], folder, cores)
    seconds = {"with_s": both["seconds"]["total"], "without_s": without["seconds"]["total"]}
    value = (seconds["without_s"] + alone) / seconds["with_s"]
    against = "the job without, then pytorch-fid's features of the same images"
    return [Ratio("the job with FID", against, value, 0.9, figures={**seconds, "pytorch_fid_s": alone})]


def feature_seconds(pictures: list[Path], folder: Path, cores: int) -> float:
    """Return the wall time of pytorch-fid's features of pictures, its network loaded before. folder: for squares."""
    squares = []
    for number, path in enumerate(pictures):
        squares.append(folder / f"{number}.jpg")
        with Image.open(path) as picture:
            picture.convert("RGB").resize((IMAGE_SIDE, IMAGE_SIDE)).save(squares[-1])
    torch.set_num_threads(cores)
    network = load_features(find_weights(None)).network
    started = time.perf_counter()
    get_activations(squares, network, dims=FEATURE_DIMENSION)
    return time.perf_counter() - started
