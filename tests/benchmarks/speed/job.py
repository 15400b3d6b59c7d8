"""Images/s of the correction job, against a bare torch loop of the same generator, precision, batch and processes.

Both use the starter bundle and the same drawn images (one defect each, so one pass of the generator each). The bare
loop starts from decoded uint8 squares in memory and discards its answers: it runs only the generator. The job does
everything except FID: it reads parquet, decodes, routes, corrects, applies edits at full size, encodes, and writes
images and manifest.

It is measured with one generator process, while the other cores read, decode and write (as on a machine with a GPU),
and with one on every core, where those steps take time from the generators.

The start of Ray's actors and the loading of the model take the same seconds for any catalog and are left out: the job
also runs on a quarter of the images, and the difference in images is divided by the difference in seconds.
"""

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from model.bundle import STARTER, load_bundle
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import CATALOG
from pipelines.images.decode import decode_image
from pipelines.images.encode import encode_image
from pipelines.images.pixels import to_tensor, to_uint8
from pipelines.images.resize import resize_bicubic
from pipelines.inference.generator import GeneratorPass
from pipelines.synthesis.products import draw_scene
from tests.benchmarks.speed.ratio import Ratio

REPOSITORY = Path(__file__).resolve().parents[3]
#: Number of drawn scenes; larger catalogs repeat them with one different block, as equal files are corrected once.
SCENES = 48


def write_catalog(path: Path, images: int) -> list[bytes]:
    """Write a catalog of `images` drawn photos whose labels name one defect each; return one photo of each scene."""
    scenes = [draw_scene(f"bench-{index}", 0).photo for index in range(min(images, SCENES))]
    labels = cycle(LabelMap.parse(load_bundle(STARTER).label_map, "starter").defects)
    rows = [
        {
            "image_id": f"image-{index}",
            "image": encode_image(_with_corner(scenes[index % len(scenes)], index)),
            "labels": [{"label": next(labels), "score": 0.9}],
            "product_type": "drawn",
        }
        for index in range(images)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=CATALOG), path)
    return [row["image"] for row in rows[: len(scenes)]]


def _with_corner(photo: np.ndarray, number: int) -> np.ndarray:
    """Return the photo with a corner of 8 by 8 pixels, a block of a JPEG, that is unique to `number`."""
    marked = photo.copy()
    marked[:8, :8] = (number // 1024 * 16 % 256, number // 32 % 32 * 8, number % 32 * 8)
    return marked


def bare_worker(squares: np.ndarray, images: int, batch_size: int, connection: Connection) -> None:
    """Send the seconds for `images` images through the generator, with one thread, after a warm-up."""
    torch.set_num_threads(1)
    bundle = load_bundle(STARTER)
    generator = GeneratorPass(None, "--bundle", bundle.version, torch.device("cpu"), "auto", batch_size)
    label_map = LabelMap.parse(bundle.label_map, "starter")
    defects = [
        defect for defect, _ in zip(cycle(label_map.defects.values()), range(batch_size), strict=False)
    ]
    types = torch.tensor([defect.id for defect in defects])
    groups = torch.tensor([label_map.groups[defect.group] for defect in defects])

    def forward(start: int) -> None:
        batch = to_tensor(squares[np.arange(start, start + batch_size) % len(squares)])
        to_uint8(generator.edit(batch, groups, types).content)

    forward(0)
    connection.send("ready")
    connection.recv()
    started = time.perf_counter()
    for start in range(0, images, batch_size):
        forward(start)
    connection.send(time.perf_counter() - started)


def bare_loop(squares: np.ndarray, processes: int, images: int, batch_size: int) -> float:
    """Return the images/s of `processes` bare loops that start together; the slowest counts."""
    spawn = multiprocessing.get_context("spawn")
    each = max(batch_size, images // processes // batch_size * batch_size)
    connections, workers = [], []
    for _ in range(processes):
        own_end, worker_end = spawn.Pipe()
        worker = spawn.Process(target=bare_worker, args=(squares, each, batch_size, worker_end))
        worker.start()
        connections.append(own_end)
        workers.append(worker)
    for connection in connections:
        connection.recv()
    for connection in connections:
        connection.send("go")
    seconds = max(connection.recv() for connection in connections)
    for worker in workers:
        worker.join()
    return each * processes / seconds


def job(catalog: Path, output: Path, processes: int | None, *flags: str) -> dict[str, Any]:
    """Run the job, without FID unless there are flags, and return its run.json. processes: None for its own choice."""
    line = [sys.executable, "jobs/correct_catalog.py", "--catalog", str(catalog), "--output", str(output)]
    line += ["--device", "cpu", *(flags or ("--no-fid",))]
    if processes:
        line += ["--actors", f"{processes}:{processes}"]
    subprocess.run(line, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads((output / "run.json").read_text())


def ratios(small: bool) -> list[Ratio]:
    """Return the job's share of the bare loop's speed, with one generator process and with one on every core."""
    cores = multiprocessing.cpu_count()
    images = 16 if small else 400
    if small:
        return [compare(images, 1, 0.9)]
    return [compare(images, processes, aim) for processes, aim in {1: 0.9, cores: 0.75}.items()]


def compare(images: int, processes: int, aim: float) -> Ratio:
    """Return the ratio for one number of generator processes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photos = write_catalog(folder / "large.parquet", images)
        write_catalog(folder / "small.parquet", images // 4)
        side = load_bundle(STARTER).config["image_size"]
        squares = np.stack([resize_bicubic(decode_image(photo), side, side) for photo in photos])
        few = job(folder / "small.parquet", folder / "small", processes)
        batch_size = few["placement"]["batch_size"]
        before = bare_loop(squares, processes, images, batch_size)
        many = job(folder / "large.parquet", folder / "large", processes)
        after = bare_loop(squares, processes, images, batch_size)
    bare = (before + after) / 2  # a shared machine drifts, so measure before and after the job
    more = many["rows_in"] - few["rows_in"]
    speed = more / (many["seconds"]["correct"] - few["seconds"]["correct"])
    figures = {
        "images_per_s": speed,
        "images_per_s_with_start": many["images_per_second"],
        "bare_images_per_s": [before, after],
        "core_ms_per_image": {name: 1000 * value / images for name, value in many["core_seconds"].items()},
        "precision": many["placement"]["precision"],
        "batch": batch_size,
    }
    what = f"the job without FID, {processes} generator process{'es' if processes > 1 else ''}, images/s"
    against = "the generator alone in a bare loop, as many processes"
    return Ratio(what, against, speed / bare, aim, figures=figures)
