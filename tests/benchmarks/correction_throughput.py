"""Images/s of the correction job against a bare torch loop, in one run on this machine.

    make bench

Both use the starter bundle, the same drawn images (one defect each, so one pass of the generator each), the same
precision, batch size and number of processes. The bare loop starts from decoded uint8 squares in memory and throws its
answers away: nothing but the generator. The job does everything but FID: it reads parquet, decodes, routes, corrects,
applies edits at full size, encodes, and writes images and manifest.

Two ratios are printed. `whole stage` has the start of Ray's actors and the loading of the model, which take the same
seconds for any catalog; `marginal` leaves them out: the job runs on a quarter of the images as well, and the difference
in images is divided by the difference in seconds.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from model.bundle import STARTER, load_bundle
from model.precision import autocast, choose_precision, memory_format
from pipelines.decode import decode_image
from pipelines.drawing import draw_scene
from pipelines.encode import encode_image
from pipelines.label_map import LabelMap
from pipelines.resize import resize_bicubic
from pipelines.schemas import CATALOG

REPOSITORY = Path(__file__).resolve().parents[2]
#: Distinct pictures; larger catalogs repeat them under other ids.
PICTURES = 48
#: Images in a pass, in both.
BATCH_SIZE = 4


def write_catalog(path: Path, images: int) -> list[bytes]:
    """A catalog of `images` drawn photos whose labels name one defect each; returns the distinct photos."""
    photos = [encode_image(draw_scene(f"bench-{index}", 0).photo) for index in range(min(images, PICTURES))]
    labels = cycle(LabelMap.parse(load_bundle(STARTER).label_map, "starter").defects)
    rows = [
        {
            "image_id": f"image-{index}",
            "image": photos[index % len(photos)],
            "labels": [{"label": next(labels), "score": 0.9}],
            "product_type": "drawn",
        }
        for index in range(images)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=CATALOG), path)
    return photos


def bare_worker(squares: np.ndarray, passes: int, connection: Connection) -> None:
    """Time `passes` images through the generator, one thread, after a warm-up; sends the seconds."""
    torch.set_num_threads(1)
    bundle = load_bundle(STARTER)
    device = torch.device("cpu")
    precision = choose_precision("auto", device)
    layout = memory_format(precision)
    generator = bundle.generator.to(memory_format=layout)
    context = autocast(device, precision)
    types = torch.arange(BATCH_SIZE) % generator.config.n_types
    groups = (types == 2).long()

    def forward(start: int) -> None:
        batch = torch.from_numpy(squares[np.arange(start, start + BATCH_SIZE) % len(squares)])
        x = batch.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous(memory_format=layout)
        with torch.inference_mode(), context():
            edit = generator.edit(x, groups, types)
            (edit.content * 127.5 + 127.5).round().to(torch.uint8)

    forward(0)
    connection.send("ready")
    connection.recv()
    started = time.perf_counter()
    for start in range(0, passes, BATCH_SIZE):
        forward(start)
    connection.send(time.perf_counter() - started)


def bare_loop(squares: np.ndarray, processes: int, passes: int) -> float:
    """Images/s of `processes` bare loops that start together; the slowest counts."""
    spawn = multiprocessing.get_context("spawn")
    each = max(BATCH_SIZE, passes // processes // BATCH_SIZE * BATCH_SIZE)
    connections, workers = [], []
    for _ in range(processes):
        here, there = spawn.Pipe()
        worker = spawn.Process(target=bare_worker, args=(squares, each, there))
        worker.start()
        connections.append(here)
        workers.append(worker)
    for connection in connections:
        connection.recv()
    for connection in connections:
        connection.send("go")
    seconds = max(connection.recv() for connection in connections)
    for worker in workers:
        worker.join()
    return each * processes / seconds


def job(catalog: Path, output: Path, processes: int) -> dict:
    """Run the job without FID; its run.json."""
    line = [sys.executable, "jobs/correct_catalog.py", "--catalog", str(catalog), "--output", str(output)]
    line += ["--no-fid", "--actors", f"{processes}:{processes}", "--batch-size", str(BATCH_SIZE)]
    subprocess.run(line, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    return json.loads((output / "run.json").read_text())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument(
        "--processes",
        type=int,
        default=multiprocessing.cpu_count(),
        help="generator processes, one thread each",
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        catalog = Path(folder) / "catalog.parquet"
        photos = write_catalog(catalog, args.images)
        side = load_bundle(STARTER).config["image_size"]
        squares = np.stack([resize_bicubic(decode_image(photo), side, side) for photo in photos])
        before = bare_loop(squares, args.processes, args.images)
        run = job(catalog, Path(folder) / "out", args.processes)
        small = Path(folder) / "small.parquet"
        write_catalog(small, args.images // 4)
        short = job(small, Path(folder) / "small", args.processes)
        after = bare_loop(squares, args.processes, args.images)
    bare = (before + after) / 2  # a shared machine drifts: measured on both sides of the job
    more = run["rows_in"] - short["rows_in"]
    marginal = more / (run["seconds"]["correct"] - short["seconds"]["correct"])
    stage = run["images_per_second"]
    core = {name: seconds / args.images * 1000 for name, seconds in run["core_seconds"].items()}
    print(
        f"{args.images} images at {side} pixels, {args.processes} processes, {run['placement']['precision']}"
    )
    print(f"bare loop            {bare:7.2f} images/s  ({before:.2f} before the job, {after:.2f} after)")
    print(f"job, marginal        {marginal:7.2f} images/s  ratio {marginal / bare:.2f}")
    print(f"job, whole stage     {stage:7.2f} images/s  ratio {stage / bare:.2f}")
    print("core milliseconds per image:", {name: round(value, 1) for name, value in core.items()})


if __name__ == "__main__":
    main()
