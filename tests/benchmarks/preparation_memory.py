"""Memory of a preparation while it runs, for any number of drawn photos of 64 to 96 pixels with masks.

    python tests/benchmarks/preparation_memory.py --photos 50000 --folder /tmp/preparation

Draws tables of photos (ten kinds of product, shifted and coloured by number, which is cheap),
runs jobs/prepare_dataset.py on them, and reads the memory of its driver and of all worker processes every few seconds.
Prints resident sizes in MB over time, and their growth from the first third of the run to the last: flat is near 0.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROWS_PER_FILE, ROWS_PER_GROUP = 5000, 500
REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = os.sysconf("SC_PAGE_SIZE")


def encoded(image: np.ndarray, kind: str, **options: int) -> bytes:
    """Return JPEG or PNG bytes of uint8 (H, W) or (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def draw(number: int) -> dict[str, bytes | str]:
    """Draw a photo of an ellipse on a coloured background, and its mask; every eleventh mask is useless."""
    rng = np.random.default_rng(number)
    height, width = rng.integers(64, 97, size=2)
    y, x = np.ogrid[:height, :width]
    inside = ((y - height / 2) / (0.36 * height)) ** 2 + ((x - width / 2) / (0.32 * width)) ** 2 < 1
    goods, background = rng.integers(20, 110, 3), rng.integers(140, 240, 3)
    photo = np.where(inside[..., None], goods, background) + rng.integers(0, 10, (height, width, 1))
    mask = np.full((height, width), 128, np.uint8) if number % 11 == 0 else np.uint8(255) * inside
    return {
        "image_id": f"photo-{number:08}",
        "image": encoded(photo.astype(np.uint8), "JPEG", quality=90),
        "mask": encoded(mask, "PNG"),
        "product_type": f"kind-{number % 10}",
    }


def write_photos(folder: Path, count: int) -> None:
    """Write tables of `count` photos; existing tables stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, count, ROWS_PER_FILE):
        path = folder / f"photos-{first:08}.parquet"
        if not path.exists():
            rows = [draw(number) for number in range(first, min(count, first + ROWS_PER_FILE))]
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=ROWS_PER_GROUP)


def resident(pid: int) -> float:
    """Return a process's resident memory in MB without shared memory (Ray's object store); 0 if it has ended."""
    with contextlib.suppress(OSError, IndexError):
        _, pages, shared = (int(n) for n in Path(f"/proc/{pid}/statm").read_text().split()[:3])
        return (pages - shared) * PAGE / 1e6
    return 0.0


def workers(driver: int) -> dict[int, str]:
    """Return Ray workers that descend from the driver: process id -> title."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            stat = (entry / "stat").read_text()
            parents[int(entry.name)] = (int(stat[stat.rindex(")") + 2 :].split()[1]), title)
    titles = {}
    for pid, (_, title) in parents.items():
        ancestor = pid
        while ancestor in parents and ancestor != driver:
            ancestor = parents[ancestor][0]
        if ancestor == driver and pid != driver and title.startswith("ray::"):
            titles[pid] = title.strip()
    return titles


def main() -> None:
    """Draw the photos, prepare them and record the memory."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--photos", type=int, default=50_000)
    p.add_argument("--folder", type=Path, required=True)
    p.add_argument("--every", type=float, default=5.0, help="seconds between readings")
    arguments = p.parse_args()
    started = time.perf_counter()
    write_photos(arguments.folder / "photos", arguments.photos)
    print(f"drawn in {time.perf_counter() - started:.0f} s")
    output = arguments.folder / "out"
    command = [sys.executable, str(REPOSITORY / "jobs" / "prepare_dataset.py")]
    command += ["--photos", str(arguments.folder / "photos"), "--output", str(output), "--overwrite"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    readings = []
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            sizes = [resident(pid) for pid, title in workers(process.pid).items() if "IDLE" not in title]
            done = len(list(output.glob("work/done/*.parquet")))
            readings.append(
                (
                    time.perf_counter() - started,
                    resident(process.pid),
                    max(sizes, default=0.0),
                    sum(sizes),
                    done,
                )
            )
            print(
                "{:6.0f} s  driver {:6.0f}  largest worker {:6.0f}  workers {:6.0f}  units {}".format(
                    *readings[-1]
                )
            )
            time.sleep(arguments.every)
    busy = np.array([reading for reading in readings if reading[3] and reading[4]])
    third = max(1, len(busy) // 3)
    growth = busy[-third:].mean(axis=0) - busy[:third].mean(axis=0)
    summary = {
        "exit_code": process.returncode,
        "photos": arguments.photos,
        "seconds": round(readings[-1][0], 1),
        "entries": json.loads((output / "dataset.json").read_text())["counts"]["entries"],
        "shards": len(list(output.glob("shards/*.parquet"))),
        "driver_mb": {"highest": round(busy[:, 1].max()), "growth": round(growth[1])},
        "worker_mb": {"highest": round(busy[:, 2].max()), "growth": round(growth[2])},
    }
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
