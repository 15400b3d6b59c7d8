"""Correct the product photos of a catalog that a detector found defective.

Reads parquet with image_id, image (bytes) or uri, labels and optionally product_type; decides by the label
map which defects each image has; corrects them with the generator of a model bundle; and writes

    OUTPUT/images/<defect>/<image_id>.<hash of the image>.<jpg|png|webp>
    OUTPUT/manifest/*.parquet     one row per input image: status, output_uri, hashes, error
    OUTPUT/manifests/<run>/       the manifest of every run, whose images stay too
    OUTPUT/changes/<run>.parquet  the rows that a run added, changed or removed
    OUTPUT/report/index.html      counts, FID and KID per defect, pictures; fid.json and fid.csv beside it
    OUTPUT/run.json               configuration, versions, counts, timings; of every run in OUTPUT/runs/<run>.json
    OUTPUT/flags.yaml             the flags, for --config
    OUTPUT/_SUCCESS               written last, only by a run that exits with 0
    OUTPUT/.run/                  a run's work until it is published

If OUTPUT holds an earlier run, only new and changed images are corrected, and no other image is read again. Rows that
are no longer in the catalog leave the manifest. A run that was killed continues if it is started again.

    python jobs/correct_catalog.py --catalog catalog/ --output corrected/
    python jobs/correct_catalog.py --catalog s3://shop/catalog --output s3://shop/corrected \\
        --model s3://shop/models/7 --reference s3://shop/clean --actors 1:8 --gpus-per-actor 0.5

Runs on the cluster of RAY_ADDRESS (as under `ray job submit`), else on this machine.

Exit codes: 0 done; 1 the run broke off, and the manifest is as it was (--overwrite removes it); 2 wrong command line
or configuration, nothing was published; 3 more images failed than --max-failed tolerates: the manifest is published
without _SUCCESS, or not at all if the first thousand all failed; 130 interrupted (Ctrl-C), 143 terminated
(SIGTERM): the same command continues; leave out --overwrite once it has removed the earlier run.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

from jobs import command, correct_flags
from jobs.outcome import TEXT, Outcome, refusals_announced
from pipelines import storage
from pipelines.cluster import autoscaling, logs, session
from pipelines.correction import job as correction_job
from pipelines.correction.catalog import count_unlabelled
from pipelines.correction.inspect.pending import INSPECT_HERE
from pipelines.correction.inspect.survey import count_routes
from pipelines.correction.output import check_whole
from pipelines.correction.plan import Plan, resolve
from pipelines.correction.report.record import Record
from pipelines.correction.report.summary import summary, warn
from pipelines.correction.run import Run
from pipelines.published.publish import published_rows
from pipelines.storage.lock import locked
from pipelines.storage.parquet_units import joined


def main(argv: Sequence[str] | None = None) -> int:
    """Correct a catalog and return the exit code. Raises CatalogRepairError for what the user must change."""
    with refusals_announced():
        arguments = correct_flags.parser(__doc__).parse_args(argv)
        outcome = Outcome(arguments)
    if arguments.dry_run:
        with storage.impatient(), tempfile.TemporaryDirectory() as tables:
            plan = resolve(correct_flags.config(arguments), tables)
            command.show_configuration(
                correct_flags.parser(__doc__), arguments, {**plan.describe(), "plan": _preview(plan)}
            )
        return command.EXIT_OK
    logs.use(arguments.log_format)
    record = Record(storage.absolute(arguments.output))
    with outcome.announced(record):
        run = _correct(arguments, record)
        if arguments.summary == TEXT:
            sys.stdout.write(summary(run))
        warn(run)
    return command.EXIT_TOO_MANY_FAILED if run.too_many_failed else command.EXIT_OK


def _correct(arguments: argparse.Namespace, record: Record) -> Run:
    with storage.impatient():
        plan = resolve(correct_flags.config(arguments))
    if arguments.summary == TEXT:
        command.show_configuration(correct_flags.parser(__doc__), arguments, plan.describe())
    autoscaling.declare(arguments.autoscaling)
    session.check()
    output, wait = plan.config.output, arguments.wait_for_lock
    with locked(output, arguments.break_lock, wait) as lock, session.stopped_afterwards():
        record.restart()
        if lock.waited:  # the catalog may have changed, and the other run has removed tables of this plan
            plan = resolve(correct_flags.config(arguments))
        began = partial(command.keep_flags, correct_flags.parser(__doc__), arguments)
        return correction_job.run(plan, lock, began, record)


def _preview(plan: Plan) -> dict[str, Any]:
    """Return what the run would do; includes rows by route if the catalog is small enough to read in this process."""
    config = plan.config
    with storage.as_configuration_error(config.output, "--output", "read"):
        published = published_rows(config.output)
    if not config.overwrite:
        check_whole(plan.listing.rows, published, config.max_dropped)
    preview: dict[str, Any] = {"rows": plan.listing.rows, "read_tasks": len(plan.listing.units)}
    preview["rows_of_the_manifest_there"] = published
    if plan.detector is not None:
        preview["rows_to_label"] = count_unlabelled(joined(plan.listing.units))
    if plan.listing.rows <= INSPECT_HERE:
        units = joined(plan.listing.units)
        preview["rows_by_route"] = count_routes(
            units, plan.label_map, config.score_scale, plan.models(config.precision).in_canary
        )
    return preview


if __name__ == "__main__":
    command.run(main, command.CONTINUES)
