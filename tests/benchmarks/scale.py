"""What a row costs, from ten thousand rows to a million: seconds, driver, memory, files; and the next run, with
nothing to do.

    python -m tests.benchmarks.scale --rows 10000 100000 1000000
    python -m tests.benchmarks.scale --rows 1000 4000 16000 --images

Rows pass through every step of the job. Without --images they have nothing to read and fail with `no_image`, so that
what is left is what the job itself costs. With it, each has a picture of 16 by 16 pixels, which is decoded and passes
without a correction. Slopes are between neighbouring sizes, which leaves out what a run costs whatever its size.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.benchmarks.timing import peak

REPOSITORY = Path(__file__).resolve().parents[2]
#: Rows of a catalog's file, and of its row groups.
FILE_ROWS, GROUP_ROWS = 100_000, 10_000
#: Seconds between two looks at the memory of the workers.
INTERVAL = 0.5
STAGES = ("inspect", "correct", "assemble", "report", "publish")


def draw(folder: Path, rows: int, images: bool) -> None:
    """Write a catalog. images: with a tiny picture in each row that needs no correction; otherwise with a hash only."""
    folder.mkdir(parents=True)
    picture = io.BytesIO()
    Image.new("RGB", (16, 16), (250, 250, 250)).save(picture, "JPEG")
    for start in range(0, rows, FILE_ROWS):
        numbers = range(start, min(start + FILE_ROWS, rows))
        columns: dict[str, Any] = {
            "image_id": [f"shop-{number % 997}/upload-{number:012}" for number in numbers],
            "label": ["clean"] * len(numbers),
        }
        if images:
            columns["image"] = [picture.getvalue()] * len(numbers)
        else:
            columns["uri"] = pa.nulls(len(numbers), pa.string())
            columns["sha256"] = [f"{number:064x}" for number in numbers]
        table = pa.table(columns)
        pq.write_table(table, folder / f"{start:012}.parquet", row_group_size=GROUP_ROWS)


def run(catalog: Path, output: Path) -> dict[str, Any]:
    """Correct a catalog; return what each stage took, blocks, the peak of the largest worker, and files."""
    figures = output.with_suffix(".json")
    flags = ["--catalog", str(catalog), "--output", str(output), "--no-fid", "--max-failed", "1"]
    flags += ["--allow-uri", str(catalog)]  # of which no row names a file
    line = [sys.executable, "-m", "tests.benchmarks.stages", str(figures), *flags, "--summary", "json"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=log)
        peaks: dict[str, float] = {}
        watch = threading.Thread(target=_watch, args=(process, peaks))
        watch.start()
        code = process.wait()
        watch.join()
        log.seek(0)
        if code:
            raise SystemExit(log.read().decode(errors="replace"))
    record = json.loads((output / "run.json").read_text())
    stages = json.loads(figures.read_text())
    return {
        "seconds": record["seconds"]["total"],
        "stages": {name: stages[name] for name in STAGES if name in stages},
        "blocks": stages.get("correct", {}).get("blocks", 0),
        "worker_peak_mb": max(peaks.values(), default=0.0),
        "files": sum(1 for path in output.rglob("*") if path.is_file()),
        "unchanged": record["unchanged"],
    }


def _watch(process: "subprocess.Popen[bytes]", peaks: dict[str, float]) -> None:
    """Note the peak memory of the workers that Ray has for the process, until it ends."""
    while process.poll() is None:
        for name in _below(process.pid):
            title = Path(f"/proc/{name}/cmdline")
            try:
                if title.read_bytes().startswith(b"ray::"):
                    peaks[name] = max(peaks.get(name, 0.0), peak(name))
            except (FileNotFoundError, ProcessLookupError):
                continue
        time.sleep(INTERVAL)


def _below(pid: int) -> Iterator[str]:
    """Yield the processes below a process."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield child
            yield from _below(int(child))


def measure(rows: int, images: bool) -> dict[str, Any]:
    """Return the figures of a first run over `rows` rows, and of the next one, in which nothing has changed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "catalog", rows, images)
        first = run(folder / "catalog", folder / "output")
        again = run(folder / "catalog", folder / "output")
    if again["unchanged"] != rows:
        raise SystemExit("the second run found changes, so the figures do not count")
    return {"rows": rows, "first": first, "again": again}


def slopes(small: dict[str, Any], large: dict[str, Any]) -> dict[str, float]:
    """Return what one more row costs between two sizes, in microseconds; memory in bytes."""
    more = large["rows"] - small["rows"]

    def slope(run: str, stage: str, figure: str, unit: float) -> float:
        values = [one[run]["stages"].get(stage, {}).get(figure, 0.0) for one in (small, large)]
        return (values[1] - values[0]) / more * unit

    found = {}
    for name in STAGES:
        found[f"{name}, µs"] = slope("first", name, "seconds", 1e6)
        found[f"{name}, µs of the driver"] = slope("first", name, "driver_core_seconds", 1e6)
        found[f"{name}, bytes of the driver"] = slope("first", name, "driver_peak_mb", 2**20)
    blocks = large["first"]["blocks"] - small["first"]["blocks"]
    if blocks:
        found["rows per block"] = more / blocks
        found["ms of the driver per block"] = found["correct, µs of the driver"] * more / blocks / 1000
    found["largest worker, bytes"] = (
        (large["first"]["worker_peak_mb"] - small["first"]["worker_peak_mb"]) / more * 2**20
    )
    totals = {run: (large[run]["seconds"] - small[run]["seconds"]) / more * 1e6 for run in ("first", "again")}
    found |= {"whole run, µs": totals["first"], "nothing to do, µs": totals["again"]}
    return {name: round(value, 3) for name, value in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the slopes, and write all figures if asked."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, nargs="+", default=[2_000, 20_000], help="sizes, the smallest first")
    p.add_argument("--images", action="store_true", help="a tiny picture in each row")
    p.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = p.parse_args(argv)
    measured: list[dict[str, Any]] = []
    for rows in arguments.rows:
        measured.append(measure(rows, arguments.images))
        first, again = measured[-1]["first"], measured[-1]["again"]
        sys.stdout.write(
            f"{rows} rows: {first['seconds']:.1f} s, {first['blocks']} blocks, {first['files']} files, largest worker "
            f"{first['worker_peak_mb']:.0f} MB; with nothing to do {again['seconds']:.1f} s\n"
        )
        sys.stdout.flush()
    for small, large in pairwise(measured):
        sys.stdout.write(f"\nfrom {small['rows']} to {large['rows']} rows, for one row\n")
        for name, value in slopes(small, large).items():
            sys.stdout.write(f"  {name:<34}{value:12.3f}\n")
    if arguments.output:
        arguments.output.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
