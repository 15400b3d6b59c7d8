"""How good are the pictures that a bundle publishes? On held-back real photos, through the correction job.

    python -m tests.benchmarks.starter_quality [--bundle model/starter other/bundle] [--images N] [--output FOLDER]

Reads the real photos and objects beside the project (../shared/data; without them it ends), the test side
of the project's split only, and corrects at the photos' own size:

    background    photos with their own background, and objects on white laid on backgrounds of photos; as found:
                  objects on any background, without a mask, for which only the gates' share is measured
    watermark     marks that no training draws (marks.py), over photos and over products on white
    angle         products on white turned by 8 to 30 degrees; products that the picture cuts off are left out, and
                  those in whose upload registration does not find the turn again within 2 degrees (round goods)
    clean         products on white with each of the labels, and photos called marked: nothing should change

For comparison there are methods that an engineer would try first: classical saliency on white; OpenCV's inpainting,
which is given the mark's position; deskewing by principal axes and by Hough lines.

Figures are of published pictures, gates on; clean images that were rejected count as unchanged. The kept region of a
background correction comes from the pictures (measures.kept_region): pixels that went less than half of their way to
white or, where the photo itself is white, the mask. Photos with a poor mask count for the gates' share alone. The mark
is what it changed by more than 2 levels. The remaining degrees come from registering the published product with the
upright one. KID is of clothing, against products on white of the training side, which are other photos.

Prints markdown; writes results.json (also by product type), table.md and contact sheets into --output. With 60 images
of each kind it took half an hour on two cores that were busy with five other things, a quarter of it for KID.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.bundle import STARTER
from pipelines import storage
from pipelines.cluster import session
from pipelines.contracts.splits import TRAIN
from tests.benchmarks.starter_quality.cases import LABELS, make_cases
from tests.benchmarks.starter_quality.corrected import COMPARED, correct
from tests.benchmarks.starter_quality.marks import faces
from tests.benchmarks.starter_quality.samples import CLOTHING, clean_objects, clothing, found_objects
from tests.benchmarks.starter_quality.scores import baselines, score, summaries
from tests.benchmarks.starter_quality.sheets import write_sheets
from tests.benchmarks.starter_quality.tables import table

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
#: Number of products on white that KID compares with.
REFERENCE = 200


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bundle", nargs="+", default=[str(STARTER)], help="folders of model bundles")
    p.add_argument("--photos", type=Path, default=DATA / "photos.parquet", help="photos with masks")
    p.add_argument(
        "--objects", type=Path, default=DATA / "objects.parquet", help="objects, those on white with masks"
    )
    p.add_argument("--images", type=int, default=150, help="of each kind of goods, at most")
    p.add_argument(
        "--fonts", type=Path, help="folder of typefaces for the marks (default: Computer Modern's)"
    )
    p.add_argument("--no-fid", action="store_true", help="without KID, which takes a third of the time")
    p.add_argument("--output", type=Path, default=Path("out/starter_quality"), help="folder, removed first")
    p.add_argument("--actors", type=int, default=1, help="generator actors of the job")
    return p


def main() -> None:
    """Print the table."""
    args = parser().parse_args()
    if not args.photos.exists():
        print(f"{args.photos} is not there: nothing is measured")
        return
    shutil.rmtree(args.output, ignore_errors=True)
    args.output.mkdir(parents=True)
    session.start()
    samples = clothing(args.photos, args.images)
    if args.objects.exists():
        samples += clean_objects(args.objects, args.images) + found_objects(args.objects, args.images // 2)
    cases = list(make_cases(samples, faces(args.fonts), max(1, args.images // 2)))
    reference = [] if args.no_fid else clothing(args.photos, REFERENCE, TRAIN)
    columns: dict[str, dict[str, dict[str, Any]]] = {}
    for number, bundle in enumerate(args.bundle):
        started = time.perf_counter()
        scratch = args.output.absolute() / f"bundle-{number}"
        scratch.mkdir()
        results = correct(cases, storage.absolute(bundle), reference, scratch, (args.actors, args.actors))
        scored = [score(case, results.published[case.case_id]) for case in cases]
        columns[bundle] = summaries(scored)
        _add_kid(columns[bundle], results.fid)
        write_sheets(scratch / "sheets", scored)
        print(f"{bundle}: {len(cases)} images in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    session.stop()
    columns |= {name: summaries(scored) for name, scored in baselines(cases).items()}
    (args.output / "results.json").write_text(json.dumps(columns, indent=1))
    text = table(columns)
    (args.output / "table.md").write_text(text + "\n")
    print(text)


def _add_kid(summary: dict[str, dict[str, Any]], fid: Mapping[str, Any]) -> None:
    for task in COMPARED:
        row = fid.get(LABELS[task])
        if row is not None and task in summary:
            summary[task][CLOTHING]["kid"] = f"{row['kid_before']}, {row['kid_after']}"


if __name__ == "__main__":
    main()
