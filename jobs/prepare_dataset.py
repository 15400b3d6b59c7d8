"""Turn photos, product images and pairs into training shards, which all trainings read.

A photo with a good mask (its own, or one that --saliency makes) gives a pair of the photo and its product on white, and
a pair for each defect that can be put into a clean image: a mark over it, another angle, and so on. A photo without a
mask, or with a mask of low quality, gives a row without a target, for unpaired training. A clean product image gives
a pair for each such defect. Pairs that you provide are taken as they are. One image in five, by hash of its id, is kept
for tests.

    python jobs/prepare_dataset.py --photos photos.parquet --output shards
    python jobs/prepare_dataset.py --photos s3://shop/photos --saliency s3://shop/saliency.onnx \\
        --output s3://shop/train --test-catalog s3://shop/held-back
    python jobs/prepare_dataset.py --benchmark unpaired4 --root datasets --output benchmark
    python jobs/prepare_dataset.py --sources sources.yaml --output shards

A table of photos is parquet or CSV with image_id and image (encoded bytes) or uri, and optionally mask (8-bit grey PNG
of the photo's size, 255 is product) and product_type. --sources takes a YAML file that combines any readers.

Writes OUTPUT/shards/*.parquet, OUTPUT/label_map.yaml, OUTPUT/report/index.html, which shows whether --min-quality is
right, and last OUTPUT/dataset.json: counts, a fingerprint, and the images that cannot be read. A run that was killed
continues from OUTPUT/work/ if the same command is given again. Do not rewrite tables that hold image bytes until a run
has finished: their rows are identified by number, and a run whose tables were rewritten ends with an error that names
them.

New photos are a new dataset: give each delivery its own --output, and give all of them to jobs/train.py,
jobs/evaluate.py and jobs/check_dataset.py (--data 2026-01 2026-02). The split is by hash of the id, so an image is on
the same side in every delivery; check_dataset reports ids that repeat.

Exit codes: 0 done, 1 broke off (the same command continues; leave out --overwrite once it has removed the earlier
run), 2 wrong command line or input, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
"""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from jobs import command
from model.precision import DEVICES
from pipelines import storage
from pipelines.cluster import autoscaling, session
from pipelines.preparation import job
from pipelines.preparation.output import Start
from pipelines.preparation.settings import PreparationConfig, Request, resolve
from pipelines.saliency.load import is_network
from pipelines.storage.lock import locked


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = command.Parser("prepare_dataset.py", description=__doc__, formatter_class=command.HelpFormatter)
    inputs = p.add_argument_group("what to prepare (one of them at least)")
    inputs.add_argument(
        "--photos",
        nargs="+",
        action="extend",
        default=[],
        type=command.location,
        metavar="URI",
        help="tables of photos (parquet, CSV), or folders of tables or images",
    )
    inputs.add_argument(
        "--benchmark", metavar="NAME", help="a public benchmark below --root: paired4, unpaired4, …"
    )
    inputs.add_argument(
        "--root",
        type=command.location,
        metavar="URI",
        help="folder of the benchmark's datasets, in their official layouts",
    )
    inputs.add_argument(
        "--sources",
        type=command.location,
        metavar="FILE",
        help="YAML file that combines any readers",
    )
    command.add_output(p, "shards/, label_map.yaml, report/ and dataset.json")
    p.add_argument(
        "--label-map",
        type=command.location,
        metavar="URI",
        help="YAML with the defects and their groups (default: the benchmark's, else the built-in three)",
    )
    p.add_argument(
        "--synthesis",
        action="append",
        default=[],
        metavar="DEFECT=NAME",
        help="make DEFECT by the synthesis NAME (default: the synthesis of the defect's own name, if there is one)",
    )
    p.add_argument(
        "--draws",
        type=command.not_negative,
        default=PreparationConfig.draws,
        metavar="N",
        help="write N fixed pairs per training image and defect; 0 lets training make them anew in every epoch. The "
        "test split's pairs are fixed either way",
    )
    p.add_argument(
        "--seed",
        type=int,
        default=PreparationConfig.seed,
        help="of the marks, turns and so on that are drawn; the split does not depend on it",
    )
    p.add_argument(
        "--max-side",
        type=int,
        default=PreparationConfig.max_side,
        help="longest side of stored images in pixels; raise it to train above 256",
    )
    p.add_argument(
        "--min-quality",
        type=float,
        default=PreparationConfig.min_quality,
        help="a mask with a lower score makes no target (0 to 1)",
    )
    p.add_argument(
        "--saliency",
        type=command.location_unless(lambda text: not is_network(text)),
        metavar="NAME|URI",
        help="masks for photos that have none: 'classical', or a network (.onnx, or TorchScript .pt)",
    )
    p.add_argument(
        "--device",
        dest="saliency_device",
        choices=DEVICES,
        default=PreparationConfig.saliency_device,
        help="where the network of --saliency runs; auto: GPUs if the cluster has any, else CPUs",
    )
    p.add_argument(
        "--gpus-per-actor",
        type=float,
        metavar="F",
        help="share of a GPU for each process with the network (default: 0.25)",
    )
    command.add_autoscaling(p)
    p.add_argument(
        "--shard-size",
        type=command.positive,
        default=PreparationConfig.shard_size,
        metavar="MB",
        help="largest size of a shard; shards are smaller if there would be fewer than 64, so that many workers can "
        "share them",
    )
    p.add_argument("--limit", type=command.positive, metavar="N", help="only the first N images, for a try")
    p.add_argument(
        "--test-catalog",
        type=command.destination,
        metavar="URI",
        help="also write a test for jobs/correct_catalog.py: the held-back images, each with one of its defects, as "
        "URI/catalog, and clean ones as URI/reference",
    )
    p.add_argument(
        "--test-limit",
        type=command.positive,
        metavar="N",
        help="at most N images in the test catalog, chosen by hash",
    )
    p.add_argument(
        "--overwrite", action="store_true", help="replace what earlier runs wrote to the same folders"
    )
    command.add_lock(p)
    command.add_dry_run(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a dataset and return the exit code. Raises CatalogRepairError for what the user must change."""
    arguments = parser().parse_args(argv)
    with storage.impatient():
        request = resolve(_config(arguments))
    if arguments.dry_run:
        _check(arguments, request)
        return command.EXIT_OK
    autoscaling.declare(arguments.autoscaling)
    session.check()
    with locked(request.layout.output, arguments.break_lock, arguments.wait_for_lock) as lock:
        keep_flags = partial(command.keep_flags, parser(), arguments)
        job.run(request, *_check(arguments, request), lock, keep_flags)
    return command.EXIT_OK


def _config(arguments: argparse.Namespace) -> PreparationConfig:
    return PreparationConfig(
        **{field.name: getattr(arguments, field.name) for field in fields(PreparationConfig)}
    )


def _check(arguments: argparse.Namespace, request: Request) -> tuple[Start, dict[str, Any]]:
    """Look at what the outputs hold and show what the run will do; return how it begins and what was shown."""
    start = job.check(request)
    configuration = request.preview(start)
    command.show_configuration(parser(), arguments, configuration)
    return start, configuration


if __name__ == "__main__":
    command.run(main, command.CONTINUES)
