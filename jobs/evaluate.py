"""Compare model bundles on the test split of prepared shards: FID and KID per defect, PSNR, L1, pictures.

Every bundle corrects the same held-back rows at its own input size. All answers are compared at 256 pixels with the
test split's targets. So are, as limits, the uploads themselves and the training split's targets (the floor).

    OUTPUT/table.md              the page to read: reductions, a table per defect, what the figures mean
    OUTPUT/table.csv, .json      the same rows for programs
    OUTPUT/grids/<defect>.png    upload, each bundle's answer, target
    OUTPUT/_SUCCESS              written last

    python jobs/evaluate.py --data shards --bundle run/bundle model/starter --output compared
    python jobs/evaluate.py --data s3://shop/train --bundle s3://shop/runs/{1,2}/bundle --output s3://shop/compared/2

Runs on the cluster of RAY_ADDRESS (as under `ray job submit`), else on this machine; with --workers 0 in this
process, without Ray. The same data, bundles and --samples give the same table: byte for byte in this process, to
the third significant digit on Ray, where batches contain other images. FID costs about a quarter of a second of a
CPU core per image, besides the generators' own time; the uploads and targets are measured once for all bundles.

Exit codes: 0 done; 1 the run broke off, or (tables, but no _SUCCESS) a bundle gave no finite answer for a defect it
knows, or no test image of a defect could be decoded; 2 wrong command line or input, nothing was written;
130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
"""

import argparse
import sys
from collections.abc import Sequence

from jobs import command
from model.precision import DEVICES, PRECISIONS
from pipelines import storage
from pipelines.cluster import autoscaling
from pipelines.evaluation import job as evaluation_job
from pipelines.evaluation.config import GRIDS, MARKDOWN, EvaluationConfig, resolve
from pipelines.evaluation.table import summary


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = command.Parser("evaluate.py", description=__doc__, formatter_class=command.HelpFormatter)
    add = p.add_argument
    command.add_data(p, "taken together")
    add(
        "--bundle",
        nargs="+",
        action="extend",
        required=True,
        type=command.location,
        metavar="URI",
        help="model bundles, as jobs/train.py writes them; a dash stands for a defect that a bundle does not know",
    )
    command.add_output(p, "the tables and pictures")
    add(
        "--samples",
        type=command.positive,
        default=EvaluationConfig.samples,
        metavar="N",
        help="test rows per defect, chosen by hash, the same for every bundle, and as many training targets for the "
        "floor; this process keeps 8 KB of each image and set",
    )
    add("--no-fid", action="store_true", help="skip FID and KID: PSNR, L1 and pictures only")
    command.add_fid_weights(p)
    add(
        "--workers",
        type=command.not_negative,
        metavar="N",
        help="Ray actors at most (default: one per CPU or GPU); 0 evaluates in this process, without Ray",
    )
    add("--device", choices=DEVICES, default="auto", help="auto: GPUs if there are any, else CPUs")
    command.add_autoscaling(p)
    add(
        "--precision",
        choices=PRECISIONS,
        default=EvaluationConfig.precision,
        help="of the generators; float32 gives figures that compare across machines, auto is what correction uses",
    )
    add("--overwrite", action="store_true", help="replace the evaluation that OUTPUT holds")
    command.add_dry_run(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Compare bundles and return the exit code. Raises CatalogRepairError for what the user must change."""
    arguments = parser().parse_args(argv)
    with storage.impatient():
        plan = resolve(_config(arguments))
    command.show_configuration(parser(), arguments, plan.preview())
    if arguments.dry_run:
        return command.EXIT_OK
    autoscaling.declare(arguments.autoscaling)
    scores = evaluation_job.run(plan)
    command.keep_flags(parser(), arguments)
    output = plan.config.output
    sys.stdout.write(
        f"\n{summary(scores, plan.contestants, plan.fid_missing)}\n"
        f"tables    {storage.join(output, MARKDOWN)} (.csv, .json)\n"
        f"pictures  {storage.join(output, GRIDS)}\n"
    )
    return command.EXIT_OK


def _config(arguments: argparse.Namespace) -> EvaluationConfig:
    return EvaluationConfig(
        data=tuple(storage.absolute(uri) for uri in arguments.data),
        bundles=tuple(storage.absolute(uri) for uri in arguments.bundle),
        output=storage.absolute(arguments.output),
        fid=not arguments.no_fid,
        fid_weights=None if arguments.fid_weights is None else storage.absolute(arguments.fid_weights),
        **{
            name: getattr(arguments, name)
            for name in ("samples", "device", "precision", "workers", "overwrite")
        },
    )


if __name__ == "__main__":
    command.run(main, "the same command starts again; add --overwrite if something was written already")
