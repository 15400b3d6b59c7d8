"""Draw a catalog of product photos with known defects, to try, test and measure the other jobs.

The products are shirts, trousers, dresses, mugs, shoes, bags and sunglasses. Their photos are on floors and sheets,
watermarked, tilted, clean, with two defects at once, in unusual encodings, or broken. They have a detector's labels,
some of which are wrong. The same seed gives the same bytes, whatever the number of workers.

    python jobs/make_sample_catalog.py --output sample
    python jobs/make_sample_catalog.py --output s3://shop/sample --images 100000 --training-photos 0

Writes OUTPUT/catalog and OUTPUT/reference for jobs/correct_catalog.py, OUTPUT/photos for
jobs/prepare_dataset.py, OUTPUT/truth with what each image should become, and, last, OUTPUT/sample.json.
About 15 images a second and CPU core, some 40 KB each. Exit codes: 0 done, 2 wrong command line or output,
130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from jobs import command
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.cluster.progress import Progress
from pipelines.sample_catalog.catalog import SCHEMAS, SampleSettings, count_parts, summary, write_catalog
from pipelines.storage import outputs

logger = logging.getLogger("jobs.make_sample_catalog")

SUMMARY = "sample.json"
#: All that a sample consists of. Two samples must not mix, and no other file in the folder is touched.
OWNED = (*SCHEMAS, SUMMARY)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = command.Parser("make_sample_catalog.py", description=__doc__, formatter_class=command.HelpFormatter)
    command.add_output(p, "catalog/, truth/, reference/, photos/")
    p.add_argument("--images", type=int, default=200, metavar="N", help="rows of the catalog")
    p.add_argument("--seed", type=int, default=0, help="another seed draws other products")
    p.add_argument(
        "--training-photos",
        type=int,
        metavar="N",
        help="photos with masks to train on (default: half of --images)",
    )
    p.add_argument(
        "--reference-images",
        type=int,
        metavar="N",
        help="clean images for FID and KID (default: half of --images, but at least 64)",
    )
    p.add_argument(
        "--broken",
        type=float,
        default=SampleSettings.broken,
        metavar="SHARE",
        help="share of files that cannot be read, besides one of each kind among the first 60 rows; 0: none at all",
    )
    p.add_argument("--overwrite", action="store_true", help="remove an earlier sample from OUTPUT first")
    command.add_dry_run(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the catalog and return the exit code. Raises CatalogRepairError for a wrong command line or output."""
    arguments = parser().parse_args(argv)
    half = arguments.images // 2
    settings = SampleSettings(
        images=arguments.images,
        photos=half if arguments.training_photos is None else arguments.training_photos,
        reference=max(64, half) if arguments.reference_images is None else arguments.reference_images,
        seed=arguments.seed,
        broken=arguments.broken,
    )
    occupied = outputs.present(arguments.output, OWNED)
    plan = {"parts": count_parts(settings), "replaces": occupied if arguments.overwrite else []}
    shown = {"output": arguments.output, "settings": asdict(settings), "plan": plan}
    command.show_configuration(parser(), arguments, shown)
    if occupied and not arguments.overwrite:
        raise ConfigurationError(
            f"--output: {arguments.output} has {', '.join(occupied)} already; "
            "choose another folder or add --overwrite"
        )
    if arguments.dry_run:
        return command.EXIT_OK
    from pipelines.cluster import session

    session.start(arguments.output)  # before anything is removed
    outputs.remove(arguments.output, OWNED)
    command.keep_flags(parser(), arguments)
    counts = _draw(settings, arguments.output)
    with storage.as_configuration_error(arguments.output, "--output", "write"):
        storage.write_bytes(storage.join(arguments.output, SUMMARY), summary(settings, counts).encode())
    for kind in SCHEMAS:
        if counts[kind]:
            sys.stdout.write(f"{kind:<10}{counts[kind]:>9} rows  {storage.join(arguments.output, kind)}\n")
    return command.EXIT_OK


def _draw(settings: SampleSettings, output: str) -> Counter[str]:
    images = settings.images + settings.photos + settings.reference
    with Progress("drawing", images, sys.stderr) as progress:
        return write_catalog(settings, output, progress.update)


if __name__ == "__main__":
    command.run(main, "the same command starts again; add --overwrite if something was written already")
