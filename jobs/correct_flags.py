"""Define the command line of jobs/correct_catalog.py, and turn it into the configuration of a run."""

import argparse
from pathlib import Path
from typing import Any

from jobs import command
from jobs.outcome import add_flags as add_outcome
from model.precision import DEVICES, PRECISIONS
from pipelines import storage
from pipelines.contracts.error_codes import EVERY_CODE
from pipelines.contracts.profiles.profile import profile_names
from pipelines.correction.deliver.gates import OFF
from pipelines.correction.plan import CorrectionConfig
from pipelines.images.decode import DecodeLimits
from pipelines.images.encode import EXTENSIONS
from pipelines.storage.file_uris import is_file_uri

#: Arguments that are the fields of the configuration with the same names.
_AS_GIVEN = (
    "actors",
    "ai_tag",
    "batch_size",
    "canary_share",
    "check_images",
    "device",
    "fid_samples",
    "format",
    "gpus_per_actor",
    "limit",
    "max_dropped",
    "max_failed",
    "overwrite",
    "precision",
    "quality",
    "score_scale",
)


def parser(description: str | None) -> command.Parser:
    """Return the parser of the command line."""
    p = command.Parser("correct_catalog.py", description=description, formatter_class=command.HelpFormatter)
    _add_data(p.add_argument_group("data"))
    _add_uploads(p.add_argument_group("what sellers may upload"))
    _add_gates(p.add_argument_group("gates and marketplaces"))
    _add_fid(p.add_argument_group("FID and KID"))
    _add_resources(p.add_argument_group("resources"))
    add_outcome(p.add_argument_group("what a run says at its end"))
    command.add_dry_run(p)
    return p


def config(arguments: argparse.Namespace) -> CorrectionConfig:
    """Return the configuration that the arguments ask for, with absolute URIs. Raises ConfigurationError."""

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
        **{name: getattr(arguments, name) for name in _AS_GIVEN},
    )


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
        help="generator actors (default: one for two CPUs of a cluster of fixed size, since the other steps compute "
        "nearly as much; or from 1 to the number of GPUs); of a generator that takes far longer than the other steps, "
        "such as the paper's own network, give each CPU one",
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


def _limits(arguments: argparse.Namespace) -> DecodeLimits:
    return DecodeLimits(
        max_bytes=arguments.max_megabytes << 20,
        max_pixels=arguments.max_megapixels * 1_000_000,
        max_seconds=arguments.max_decode_seconds,
    )


def _actors(text: str) -> tuple[int, int]:
    low, separator, high = text.partition(":")
    try:
        return int(low), int(high) if separator else int(low)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN:MAX, such as 1:8") from error
