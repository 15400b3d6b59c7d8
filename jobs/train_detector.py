"""Train a defect detector on prepared shards, with Ray Train or (--workers 0) in this process.

    python jobs/train_detector.py --data shards --output detector --steps 20000 --workers 2
    python jobs/correct_catalog.py --catalog uploads.parquet --output corrected --detector detector/bundle

The detector learns from the shards of jobs/prepare_dataset.py which of their defects an image shows; it may show
several. One photo in ten of the training split (--validation-share) is kept to calibrate scores and thresholds;
precision and recall are measured on the test split. Writes OUTPUT/bundle (the detector with its model card),
history.parquet and checkpoints/, from which --resume continues after any crash or kill.
Exit codes: 0 done, 1 broken off (the losses diverged, or a worker kept failing), 2 wrong command line or data,
130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from jobs import command, earlier_training, train_flags
from model.detector.network import DetectorConfig
from model.precision import choose_device, choose_precision
from model.training_step import OptimizerConfig
from pipelines import storage
from pipelines.cluster import autoscaling
from pipelines.shards.index import rows_by_defect
from pipelines.shards.source import TrainingSource, open_source
from pipelines.shards.validation_part import DETECTOR_SHARE
from pipelines.storage.lock import locked
from pipelines.training.detector.job import run_worker, train_in_process
from pipelines.training.detector.plan import DetectorPlan, initial_state, inspect
from pipelines.training.detector.samples import UNKNOWN
from pipelines.training.detector.settings import DetectorSettings
from pipelines.training.encoder_weights import IMAGENET, NONE
from pipelines.training.on_ray import check_ray, train_on_ray
from pipelines.training.plan import epoch_steps, find_making
from pipelines.training.settings import describe

logger = logging.getLogger("train")

DEFAULT_STEPS = 10_000
#: All that a training writes to OUTPUT; the checkpoints last, because a training is recognised by them.
OWNED = ("ray_train", "history.parquet", "bundle", "checkpoints")


def parser() -> command.Parser:
    """Return the parser of the command line."""
    p = command.Parser("train_detector.py", description=__doc__, formatter_class=command.HelpFormatter)
    _add_what(p)
    _add_data(p.add_argument_group("data"))
    train_flags.add_machine(p.add_argument_group("machine"))
    train_flags.add_history(p.add_argument_group("records"))
    return p


def _add_what(p: argparse.ArgumentParser) -> None:
    add = p.add_argument
    command.add_data(p, "mixed")
    command.add_output(p, "the bundle, checkpoints and history")
    add(
        "--backbone",
        metavar="NAME",
        default=DetectorConfig.backbone,
        help="name in timm of a convolutional network with features at 1/8, 1/16 and 1/32",
    )
    train_flags.add_length(p, DEFAULT_STEPS)
    add(
        "--image-size",
        type=command.positive,
        default=DetectorSettings.image_size,
        help="side of the network's input in pixels",
    )
    add(
        "--batch-size",
        type=command.positive,
        default=DetectorSettings.batch_size,
        help="rows per worker and update; a row has two images, its source and its target",
    )
    train_flags.add_rate(p, 1e-3)
    add(
        "--encoder-rate",
        type=float,
        metavar="RATE",
        help="learning rate of the backbone; 0 does not train it, and takes a third of the time (default: --rate)",
    )
    add("--weight-decay", type=float, default=DetectorSettings.weight_decay, help="of AdamW")
    add(
        "--label-precision",
        type=float,
        default=DetectorSettings.precision_target,
        metavar="SHARE",
        help="thresholds are those with the best F1 among those of at least this precision; raise it if a wrong "
        "correction costs more than a defect that stays",
    )
    start = p.add_mutually_exclusive_group()
    start.add_argument(
        "--init-from",
        type=command.location,
        metavar="BUNDLE",
        help="start from this detector; labels that it does not know start untrained",
    )
    train_flags.add_encoder_weights(start)
    train_flags.add_earlier(p)


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--unknown",
        choices=UNKNOWN,
        default=DetectorSettings.unknown,
        help="what the other defects of a source count as; use masked if photos often have defects without a label",
    )
    add(
        "--overlay",
        type=float,
        default=DetectorSettings.overlay,
        metavar="SHARE",
        help="share of images that get a further drawn defect (a watermark, a turn), so that the detector learns to "
        "find several",
    )
    add(
        "--flip-half",
        action="store_true",
        help="mirror half of the images, if there are few photos; not for defects of text, or of left and right",
    )
    train_flags.add_order(group, DETECTOR_SHARE, "they calibrate scores and thresholds")
    add(
        "--validation-images",
        type=command.positive,
        default=DetectorSettings.validation_images,
        metavar="N",
        help="rows of each defect for calibration, and as many for the measurement",
    )


def resolve(argv: Sequence[str] | None) -> tuple[argparse.Namespace, DetectorPlan]:
    """Parse and check the command line and the data; return the arguments and the plan. Raises ConfigurationError."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(argv)
    source = open_source([storage.absolute(uri) for uri in args.data])
    settings = settings_from(args, source)
    if args.workers[1] == 0:  # otherwise the machines of the workers decide
        choose_precision(args.precision, choose_device(args.device))
    init, encoder = initial_state(
        settings.detector, args.seed, args.init_from, args.encoder_weights or IMAGENET
    )
    earlier_training.check(args, settings, source, OWNED)
    index = inspect(source, settings.validation_share, args.allow_missing)
    settings = replace(settings, making=find_making(source, index, settings.seed))
    each = epoch_steps(settings, index, source.label_map, max(1, args.workers[1]))
    if args.epochs is not None:
        settings = replace(settings, steps=args.epochs * each)
    line = earlier_training.portable_command("jobs/train_detector.py", argv, args)
    return args, DetectorPlan(
        source=source,
        index=index,
        command_line=line,
        workers=args.workers,
        init=init,
        encoder=encoder,
        settings=settings,
    )


def settings_from(args: argparse.Namespace, source: TrainingSource) -> DetectorSettings:
    """Return the settings, except the length under --epochs, which depends on the data."""
    return DetectorSettings(
        output=storage.absolute(args.output),
        detector=DetectorConfig(
            tuple(source.label_map.defects), args.backbone, freeze_norms=args.encoder_weights != NONE
        ),
        optimizer=OptimizerConfig(args.rate, beta1=0.9, encoder_rate=args.encoder_rate),
        steps=args.steps or DEFAULT_STEPS,
        unknown=args.unknown,
        overlay=args.overlay,
        flip=args.flip_half,
        weight_decay=args.weight_decay,
        precision_target=args.label_precision,
        **train_flags.shared_settings(args),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train a detector and return the exit code. Raises CatalogRepairError for what the user must change."""
    with storage.impatient():
        args, plan = resolve(argv)
    settings = plan.settings
    shown = {
        "settings": describe(settings),
        "output": settings.output,
        "data": args.data,
        "rows": rows_by_defect(plan.index, plan.source.label_map),
        "workers": args.workers,
    }
    command.show_configuration(parser(), args, shown)
    if args.dry_run:
        return command.EXIT_OK
    autoscaling.declare(args.autoscaling)
    if args.workers[1]:
        check_ray()
    with locked(settings.output, args.break_lock, args.wait_for_lock) as lock:
        if lock.waited:  # the other run has changed what was looked at
            args, plan = resolve(argv)
        begin = partial(earlier_training.begin, plan, OWNED, parser(), args)
        if args.workers[1]:
            train_on_ray(plan, begin, run_worker)
        else:
            train_in_process(plan, begin)
        lock.confirm()
    logger.info("bundle: %s", storage.join(settings.output, "bundle"))
    return command.EXIT_OK


if __name__ == "__main__":
    command.run(
        main,
        "the same command with --resume continues from the newest checkpoint; --overwrite starts afresh",
    )
