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
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jobs import command
from jobs.outcome import TEXT, Outcome, refusals_announced
from jobs.outcome import add_flags as add_outcome
from model.precision import DEVICES, PRECISIONS
from pipelines import storage
from pipelines.cluster import autoscaling, logs, session
from pipelines.contracts.error_codes import EVERY_CODE, FAILED
from pipelines.contracts.profiles.profile import profile_names
from pipelines.contracts.schemas import STATUSES
from pipelines.correction import job as correction_job
from pipelines.correction.catalog import count_unlabelled
from pipelines.correction.deliver.gates import OFF
from pipelines.correction.inspect.pending import INSPECT_HERE
from pipelines.correction.inspect.survey import count_routes
from pipelines.correction.output import check_whole
from pipelines.correction.plan import CorrectionConfig, Plan, resolve
from pipelines.correction.report.canary import compare
from pipelines.correction.report.record import Record, too_many_failed
from pipelines.correction.run import Run
from pipelines.images.decode import DecodeLimits
from pipelines.images.encode import EXTENSIONS
from pipelines.published.publish import published_rows
from pipelines.storage.file_uris import is_file_uri
from pipelines.storage.lock import locked
from pipelines.storage.parquet_units import joined

logger = logging.getLogger("jobs.correct_catalog")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = command.Parser("correct_catalog.py", description=__doc__, formatter_class=command.HelpFormatter)
    _add_data(p.add_argument_group("data"))
    _add_uploads(p.add_argument_group("what sellers may upload"))
    _add_gates(p.add_argument_group("gates and marketplaces"))
    _add_fid(p.add_argument_group("FID and KID"))
    _add_resources(p.add_argument_group("resources"))
    add_outcome(p.add_argument_group("what a run says at its end"))
    command.add_dry_run(p)
    return p


def _add_data(group: Any) -> None:
    group.add_argument(
        "--catalog",
        nargs="+",
        action="extend",
        required=True,
        type=command.location,
        metavar="URI",
        help="parquet files, folders of them, or patterns in quotes (folders such as product_type=shirt are columns); "
        "or a folder of images (their paths in it are the ids), or a CSV file with uri and optionally label. Images "
        "may be read from that folder, or from the folder of the CSV",
    )
    group.add_argument(
        "--label",
        metavar="NAME",
        help="what is wrong with the images of a folder, and with rows of a CSV that have no label: a label that the "
        "label map knows, such as non_white_background",
    )
    command.add_output(group, "all outputs")
    group.add_argument(
        "--model",
        type=command.location,
        metavar="URI",
        help="model bundle (default: the starter in model/starter)",
    )
    group.add_argument(
        "--canary",
        type=command.location,
        metavar="URI",
        help="bundle on trial, which corrects a share of the images in place of --model's; the report compares both on "
        "a sample of these. To go on with it, give it as --model and leave --canary out; to go back, leave it out, "
        "and --model corrects its images again",
    )
    group.add_argument(
        "--canary-share",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="share of the ids that --canary corrects, chosen by hash, above 0 up to 1; a larger share has those of a "
        "smaller one",
    )
    group.add_argument(
        "--label-map",
        type=command.location,
        metavar="URI",
        help="YAML that says what the detector's labels mean (default: the bundle's own)",
    )
    group.add_argument(
        "--score-scale",
        type=float,
        default=1.0,
        metavar="N",
        help="divisor of the catalog's scores, 100 for percentages; the result must lie between 0 and 1",
    )
    group.add_argument(
        "--detector",
        type=command.location,
        metavar="URI",
        help="bundle of jobs/train_detector.py, which labels the rows that have no labels (null, or no such column; an "
        "empty list means that there is no defect); its labels are kept in OUTPUT/labels/<run>",
    )
    group.add_argument(
        "--limit",
        type=command.positive,
        metavar="N",
        help="only the catalog's first N rows, for a try in an --output of its own: "
        "all other rows leave the manifest",
    )
    group.add_argument(
        "--format",
        choices=tuple(EXTENSIONS),
        help="of corrected images; png is lossless (default: the profile's first, else jpeg)",
    )
    group.add_argument(
        "--quality",
        type=command.positive,
        help="of jpeg and webp, 1 to 100 (default: the profile's, else 92); lowered where a profile limits the bytes",
    )
    group.add_argument(
        "--ai-tag",
        action="store_true",
        help="write into corrected images that a model has changed them (IPTC's digital source type, in XMP)",
    )
    group.add_argument(
        "--max-failed",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="tolerated share of failed images, 0 to 1; above it the exit code is 3",
    )
    group.add_argument(
        "--max-dropped",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of the manifest's rows that a smaller catalog may drop, 0 to 1; above it the run is refused",
    )
    group.add_argument(
        "--check-images",
        type=command.not_negative,
        default=200,
        metavar="N",
        help="look whether N images of earlier runs are still there, others in every run, and warn if one is gone; 0 "
        "looks for none",
    )
    group.add_argument(
        "--retry-failed",
        action="append",
        nargs="?",
        const=EVERY_CODE,
        metavar="CODE",
        help="try images again that failed before, even if they have not changed: all, or those with this error code; "
        "may be given several times",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="remove what earlier runs left in OUTPUT, the manifest too, and correct everything; to continue such a "
        "run that was killed, leave this flag out",
    )
    command.add_lock(group)


def _add_uploads(group: Any) -> None:
    defaults = DecodeLimits()
    group.add_argument(
        "--allow-uri",
        action="append",
        type=command.location,
        metavar="PREFIX",
        help="where rows without image bytes may be read from: s3://bucket/uploads/, https://cdn.example.com/, "
        "/mnt/photos; may be given several times; other uris fail with uri_not_allowed (default: nowhere). file:// "
        "URIs, here and in rows, are percent-decoded (%%20 is a blank); plain paths are not",
    )
    group.add_argument(
        "--max-megapixels",
        type=command.positive,
        default=defaults.max_pixels // 1_000_000,
        metavar="N",
        help="larger uploads fail with too_many_pixels; decoding takes up to 32 bytes of memory per pixel",
    )
    group.add_argument(
        "--max-megabytes",
        type=command.positive,
        default=defaults.max_bytes >> 20,
        metavar="N",
        help="larger files fail with too_many_bytes",
    )
    group.add_argument(
        "--max-decode-seconds",
        type=float,
        default=defaults.max_seconds,
        metavar="S",
        help="CPU time after which an upload fails with decode_timeout",
    )


def _limits(arguments: argparse.Namespace) -> DecodeLimits:
    return DecodeLimits(
        max_bytes=arguments.max_megabytes << 20,
        max_pixels=arguments.max_megapixels * 1_000_000,
        max_seconds=arguments.max_decode_seconds,
    )


def _add_gates(group: Any) -> None:
    group.add_argument(
        "--gates",
        type=command.location_unless(lambda text: text == OFF),
        metavar=f"URI|{OFF}",
        help="YAML with thresholds beyond which the original is kept and the row is 'rejected' (default: those in "
        "pipelines/correction/deliver/gates.py); off: no gates, and white backgrounds only if a profile asks for "
        "them",
    )
    group.add_argument(
        "--gate-detector",
        type=command.location,
        metavar="URI",
        help="detector that must no longer find the defect in the corrected image (default: that of --detector)",
    )
    group.add_argument(
        "--profile",
        type=command.location_unless(lambda text: text in profile_names()),
        metavar="NAME|URI",
        help=f"a marketplace's rules: {', '.join(profile_names())}, or a YAML file; they set format, quality and file "
        "size, and the manifest lists the rules that each corrected image breaks (profile_issues)",
    )


def _add_fid(group: Any) -> None:
    group.add_argument(
        "--reference",
        type=command.location,
        metavar="URI",
        help="clean images to compare with: parquet with an image column and optionally defect, or .npz statistics "
        "in pytorch-fid's format, one or a folder of <defect>.npz (default: the catalog's own clean images)",
    )
    group.add_argument("--no-fid", action="store_true", help="skip FID and KID; the report has pictures only")
    group.add_argument(
        "--fid-samples",
        type=command.positive,
        default=CorrectionConfig.fid_samples,
        metavar="N",
        help="images per defect, chosen by hash, at most 10,000; the driver keeps 16 KB for each, and 24 KB for as "
        "many of the canary's",
    )
    command.add_fid_weights(group)


def _add_resources(group: Any) -> None:
    group.add_argument(
        "--device", choices=DEVICES, default="auto", help="auto: GPUs if the cluster has any, else CPUs"
    )
    group.add_argument(
        "--actors",
        type=_actors,
        metavar="MIN:MAX",
        help="generator actors (default: one per CPU, or from 1 to the number of GPUs)",
    )
    group.add_argument(
        "--gpus-per-actor",
        type=float,
        metavar="F",
        help="GPUs that an actor claims; 0.5 puts two actors on each GPU: one computes while the other copies "
        "(default: 1 with GPUs)",
    )
    command.add_autoscaling(group)
    group.add_argument(
        "--batch-size",
        type=command.positive,
        metavar="B",
        help="images in a pass of the generator (default: 32 on a GPU, 2 on a CPU, 8 on a CPU with bfloat16)",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto: bfloat16 on GPUs and on CPUs with AMX, else float32",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Correct a catalog and return the exit code. Raises CatalogRepairError for what the user must change."""
    with refusals_announced():
        arguments = parser().parse_args(argv)
        outcome = Outcome(arguments)
    if arguments.dry_run:
        with storage.impatient(), tempfile.TemporaryDirectory() as tables:
            plan = resolve(_config(arguments), tables)
            command.show_configuration(parser(), arguments, {**plan.describe(), "plan": _preview(plan)})
        return command.EXIT_OK
    logs.use(arguments.log_format)
    record = Record(storage.absolute(arguments.output))
    with outcome.announced(record):
        run = _correct(arguments, record)
        if arguments.summary == TEXT:
            sys.stdout.write(summary(run))
        _warn(run)
    return command.EXIT_TOO_MANY_FAILED if run.too_many_failed else command.EXIT_OK


def _correct(arguments: argparse.Namespace, record: Record) -> Run:
    with storage.impatient():
        plan = resolve(_config(arguments))
    if arguments.summary == TEXT:
        command.show_configuration(parser(), arguments, plan.describe())
    autoscaling.declare(arguments.autoscaling)
    session.check()
    output, wait = plan.config.output, arguments.wait_for_lock
    with locked(output, arguments.break_lock, wait) as lock, session.stopped_afterwards():
        record.restart()
        if lock.waited:  # the catalog may have changed, and the other run has removed tables of this plan
            plan = resolve(_config(arguments))
        began = partial(command.keep_flags, parser(), arguments)
        return correction_job.run(plan, lock, began, record)


def _warn(run: Run) -> None:
    """Log what a person should look at: failures with ids, and counts that point to a fault."""
    for error in run.night.top_errors:
        if error.code in FAILED:
            logger.warning(
                "%d images failed with %s, such as %s: %s",
                *(error.count, error.code, ", ".join(map(repr, error.example_ids)), error.example_message),
                extra={"error_code": error.code, "image_ids": error.example_ids},
            )
    attempted = sum(run.night.statuses[status] for status in ("corrected", "rejected"))
    if attempted and run.night.statuses["rejected"] == attempted:
        logger.warning(
            "all %d corrections were rejected by a gate: the model is hardly trained, or the gates do not suit these "
            "images (--gates); the report shows them",
            attempted,
        )
    failed_before = run.statuses["failed"] - run.totals.statuses["failed"]
    if failed_before:
        logger.warning(
            "%d images failed in earlier runs or attempts and have not changed; --retry-failed tries them again",
            failed_before,
        )
    if run.too_many_failed:
        logger.error("%s; see the report, or the manifest's error_code", too_many_failed(run))


def summary(run: Run) -> str:
    """Return the text that the job prints at its end: counts, the table of FID, and where the outputs are."""
    lines = [""]
    if run.unchanged:
        lines.append(f"{run.unchanged} images have not changed since an earlier run and stay as they are")
    rows = run.night.rows
    if rows:
        counts = ", ".join(f"{run.night.statuses[status]} {status}" for status in STATUSES)
        rate = run.images_per_second
        speed = "" if rate is None else f"{rate:.1f} images/s while correcting, "
        lines.append(f"{rows} images: {counts}; {speed}{run.seconds['total']:.0f} s in all")
        if run.resumed:
            lines.append(
                f"{run.resumed} of these were finished by an interrupted attempt; FID and the report's pictures are of "
                "the others"
            )
        lines += [*_remarks(run), *_canary_lines(run)]
        if run.fid is None:
            lines += ["", f"no FID: {run.fid_missing}"]
        elif run.fid["defects"]:
            lines += ["", *_fid_table(run.fid)]
    else:
        lines.append("nothing was corrected")
    lines.append("")
    if run.statuses["corrected"]:
        lines.append(f"images    {storage.join(run.output, 'images')}")
    lines += [
        f"manifest  {storage.join(run.output, 'manifest')}",
        f"report    {storage.join(run.output, 'report', 'index.html')}",
    ]
    return "\n".join(lines) + "\n"


def _canary_lines(run: Run) -> list[str]:
    """Return a line for each defect that the canary corrected."""
    comparison = compare(run)
    if comparison is None:
        return []
    if not comparison.counts:
        return ["  canary: no new or changed image with a defect fell to it"]
    lines = []
    for defect, by_bundle in comparison.counts.items():
        shares = [
            f"{bundle} {counts['rejected']} rejected and {counts['failed']} failed of {sum(counts.values())}"
            for bundle, counts in by_bundle.items()
        ]
        lines.append(f"  {defect}: {', '.join(shares)}")
    return ["", "canary and, on a sample of the same images, the current bundle:", *lines]


def _remarks(run: Run) -> list[str]:
    """Return lines about the most frequent errors and the marketplace rules that corrected images break."""
    remarks = [
        f"  {error.code}: {error.count}, such as {error.example_ids[0]!r}"
        for error in run.night.top_errors[:5]
    ]
    missed = [f"{rule} {count}" for rule, count in sorted(run.night.profile_issues.items())]
    return [*remarks, *([f"  corrected, but not as --profile asks: {', '.join(missed)}"] if missed else [])]


def _fid_table(fid: Mapping[str, Any]) -> list[str]:
    header = ("defect", "n", "FID before", "FID after", "KID before", "KID after")
    rows = [header]
    for defect, row in fid["defects"].items():
        fids = [_number(row[key], 2) for key in ("fid_before", "fid_after")]
        kids = [_number(row[key], 4) for key in ("kid_before", "kid_after")]
        rows.append((defect, str(row["n"]), *fids, *kids))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    notes = sorted({row["note"] for row in fid["defects"].values() if row["note"]})
    return [*lines, *(f"note: {note}" for note in notes)]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


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


def _config(arguments: argparse.Namespace) -> CorrectionConfig:
    def absolute(uri: str | None) -> str | None:
        return None if uri is None else storage.absolute(uri)

    return CorrectionConfig(
        catalog=tuple(storage.absolute(uri) for uri in arguments.catalog),
        output=storage.absolute(arguments.output),
        model=absolute(arguments.model),
        canary=absolute(arguments.canary),
        label=arguments.label,
        label_map=absolute(arguments.label_map),
        detector=absolute(arguments.detector),
        reference=absolute(arguments.reference),
        gates=arguments.gates if arguments.gates == OFF else absolute(arguments.gates),
        gate_detector=absolute(arguments.gate_detector),
        fid_weights=absolute(arguments.fid_weights),
        profile=arguments.profile if arguments.profile in profile_names() else absolute(arguments.profile),
        fid=not arguments.no_fid,
        retry_failed=tuple(arguments.retry_failed or ()),
        limits=_limits(arguments),
        allow_uri=tuple(
            # An empty prefix, from a variable that is not set, must not mean the working directory.
            prefix if "://" in prefix or is_file_uri(prefix) or not prefix else str(Path(prefix).absolute())
            for prefix in arguments.allow_uri or ()
        ),
        **{
            name: getattr(arguments, name)
            for name in (
                *("fid_samples", "actors", "gpus_per_actor", "device", "precision"),
                *(
                    "batch_size",
                    "limit",
                    "format",
                    "quality",
                    "ai_tag",
                    "score_scale",
                    "canary_share",
                    "max_failed",
                    "max_dropped",
                    "check_images",
                    "overwrite",
                ),
            )
        },
    )


def _actors(text: str) -> tuple[int, int]:
    low, separator, high = text.partition(":")
    try:
        return int(low), int(high) if separator else int(low)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN:MAX, such as 1:8") from error


if __name__ == "__main__":
    command.run(main, command.CONTINUES)
