"""Time of the maintenance of an output whose two nights share no image.

    python -m tests.benchmarks.maintaining --rows 200000

Publishes two nights with an empty file for each image on a local disk; then returns to the first, erases an id, and
cleans up, as jobs/maintain_output.py does. On S3 add the requests: a thousand files are listed or removed in one.
"""

import argparse
import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines import storage
from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.publish.assemble import PART_ROWS
from pipelines.correction.rows import to_table
from pipelines.maintenance.clean import clean
from pipelines.maintenance.erase import erase
from pipelines.maintenance.rollback import roll_back
from pipelines.published.layout import RunFolder
from pipelines.published.object_names import image_uri
from pipelines.published.parts import parquet_bytes
from pipelines.published.publish import Publication, publish
from pipelines.published.records import write_run
from pipelines.storage.lock import Lock, locked


def night(output: str, run: str, rows: int) -> None:
    """Publish a manifest and its images."""
    folder, names = RunFolder(output), []
    for start in range(0, rows, PART_ROWS):
        part = []
        for number in range(start, min(start + PART_ROWS, rows)):
            digest = hashlib.sha256(f"{run} {number}".encode()).hexdigest()
            uri = image_uri(output, "watermark", f"upload-{number}", digest, "jpeg")
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
            Path(uri).touch()
            part.append(
                {
                    "image_id": f"upload-{number}",
                    "source_uri": f"s3://shop/uploads/{number}.jpg",
                    "status": "corrected",
                    "output_uri": uri,
                    "output_sha256": digest,
                    "defect": "watermark",
                    "defects": ["watermark"],
                    "input_sha256": digest,
                    "row_key": bytes.fromhex(digest[:32]),
                    "image_key": bytes.fromhex(digest[32:]),
                }
            )
        names.append(f"part-{start:09}.parquet")
        storage.write_bytes(folder.at("manifest", names[-1]), parquet_bytes(to_table(part, MANIFEST)))
    write_run(output, {"run": run, "manifest_run": run, "state": "complete"})
    publish(output, Publication(run, rows, names, None, success=True))


def step(output: str, name: str, act: Callable[[Lock], object]) -> None:
    """Measure one verb."""
    with locked(output) as lock:
        started, used = time.perf_counter(), time.process_time()
        act(lock)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    sys.stdout.write(f"{name:10}{seconds:8.1f} s{cpu:8.1f} s of a core{peak:8} MB so far\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Publish and measure."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=200_000)
    rows = p.parse_args(argv).rows
    with tempfile.TemporaryDirectory() as output:
        night(output, "1", rows)
        night(output, "2", rows)
        step(output, "rollback", lambda lock: roll_back(output, "1", lock))
        step(output, "erase", lambda lock: erase(output, ["upload-7"], lock))
        step(output, "clean", lambda lock: clean(output, 1, lock))


if __name__ == "__main__":
    main()
