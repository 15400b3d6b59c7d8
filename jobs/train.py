"""Train the generator on prepared shards, with Ray Train or (--workers 0) in this process.

    python jobs/train.py --data shards --output run --workers 2 --steps 20000 --batch-size 4
    python jobs/train.py --data shards --output run --workers 2 --steps 20000 --batch-size 4 --resume
    ray job submit --working-dir . -- python jobs/train.py --data s3://shop/train --output s3://shop/runs/1 --workers 8

Writes OUTPUT/bundle (the model, for jobs/correct_catalog.py --model), OUTPUT/history.csv, OUTPUT/samples/*.png
(columns: input, output, target) and OUTPUT/checkpoint.pt, from which --resume continues after any kind of death.
Exit codes: 0 done, 2 wrong command line or input.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import PurePath

from jobs import command
from model.config import GEOMETRIES, HEADS, INJECT_INITS, REDUCTIONS
from model.errors import ConfigurationError
from model.precision import DEVICES, PRECISIONS, choose_device, choose_precision
from model.recipes import MethodConfig, method_config
from model.semi_paired import DIRECTIONS, TASK_BALANCES
from model.training_step import OptimizerConfig
from pipelines import storage
from pipelines.label_map import LabelMap
from pipelines.training.job import Plan, balanced, initial_weights, train_in_process, train_on_ray
from pipelines.training.loop import TrainSettings
from pipelines.training.observer import describe
from pipelines.training.source import TrainingSource, open_source, train_pairs

logger = logging.getLogger("train")

DEFAULT_STEPS = 20_000

#: What a training leaves in OUTPUT, and so what --overwrite removes; the checkpoint last, because it is what
#: tells that OUTPUT holds a training.
OWNED = ("ray_train", "samples", "history.csv", "bundle", "checkpoint.pt")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = command.Parser("train.py", description=__doc__, formatter_class=command.HelpFormatter)
    add = p.add_argument
    add(
        "--data",
        nargs="+",
        required=True,
        metavar="URI",
        help="what jobs/prepare_dataset.py wrote; several are mixed",
    )
    add(
        "--output",
        required=True,
        metavar="URI",
        help="folder for the bundle, checkpoints, history and sample grids",
    )
    add("--recipe", choices=["proposed"], default="proposed", help="which method to train")
    length = p.add_mutually_exclusive_group()
    length.add_argument(
        "--steps", type=command.positive, metavar="N", help="length in updates (default: 20,000)"
    )
    length.add_argument(
        "--epochs", type=command.positive, metavar="N", help="length in passes over the training pairs"
    )
    add(
        "--image-size",
        type=command.positive,
        default=256,
        help="training resolution in pixels; a multiple of 4",
    )
    add("--batch-size", type=command.positive, default=1, help="samples per worker and update")
    add(
        "--rate",
        type=float,
        default=2e-4,
        help="learning rate, constant for half the length, then falling to zero",
    )
    add("--seed", type=int, default=0)
    add(
        "--resume",
        action="store_true",
        help="continue from OUTPUT's checkpoint, or start where there is none; --steps may change",
    )
    add(
        "--init-from",
        metavar="BUNDLE",
        help="start from this bundle's weights; its architecture must be the same",
    )
    add("--overwrite", action="store_true", help="replace an earlier training in OUTPUT")
    add("--dry-run", action="store_true", help="print the resolved configuration, and do nothing")
    machine = p.add_argument_group("machine")
    machine.add_argument(
        "--workers",
        type=command.not_negative,
        default=1,
        help="Ray Train workers; 0 trains in this process, without Ray",
    )
    machine.add_argument(
        "--device", choices=DEVICES, default="auto", help="auto takes a GPU where there is one"
    )
    machine.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto is bfloat16 where the hardware has units for it",
    )
    machine.add_argument("--checkpoint-every", type=command.positive, default=500, metavar="STEPS")
    machine.add_argument(
        "--grid-every",
        type=command.positive,
        default=500,
        metavar="STEPS",
        help="how often samples/*.png are drawn",
    )
    machine.add_argument("--log-every", type=command.positive, default=20, metavar="STEPS")
    machine.add_argument(
        "--shuffle-rows",
        type=command.positive,
        default=512,
        metavar="N",
        help="decoded rows that each worker shuffles among; raise it where several --data are mixed",
    )
    network = p.add_argument_group("network")
    network.add_argument(
        "--width",
        type=command.positive,
        default=64,
        help="channels after the first convolution; 32 suits CPUs",
    )
    network.add_argument(
        "--blocks", type=command.not_negative, default=9, help="residual blocks; 6 is usual below 256 pixels"
    )
    network.add_argument(
        "--blocks-before-type",
        type=command.not_negative,
        help="of these, before the type is injected (default: 4/9)",
    )
    network.add_argument(
        "--reduce",
        choices=REDUCTIONS,
        default="sum",
        help="how the attention map is summed; sum is the paper's",
    )
    network.add_argument(
        "--inject-init", choices=INJECT_INITS, default="normal", help="initial weights of the injections"
    )
    network.add_argument(
        "--head",
        choices=HEADS,
        default="direct",
        help="direct is the paper's; blend keeps untouched pixels exactly",
    )
    network.add_argument(
        "--geometry", choices=GEOMETRIES, default="none", help="affine lets --geometric-groups turn the image"
    )
    network.add_argument(
        "--geometric-groups",
        nargs="*",
        default=["angle"],
        metavar="GROUP",
        help="groups whose defect is where the product stands: never cropped, no cycle, moved by --geometry",
    )
    objective = p.add_argument_group("objective")
    objective.add_argument(
        "--adversarial", type=float, default=1.0, metavar="WEIGHT", help="0 trains without discriminators"
    )
    objective.add_argument("--reconstruction", type=float, default=150.0, metavar="WEIGHT")
    objective.add_argument("--cycle", type=float, default=10.0, metavar="WEIGHT")
    objective.add_argument("--identity", type=float, default=10.0, metavar="WEIGHT")
    objective.add_argument(
        "--directions",
        choices=DIRECTIONS,
        default="both",
        help="forward trains no generator back: cheaper, needs --cycle 0",
    )
    objective.add_argument(
        "--task-balance",
        choices=TASK_BALANCES,
        default="none",
        help="baseline lets faint defects count as much as large ones",
    )
    objective.add_argument(
        "--beta1", type=float, default=0.5, help="Adam's first beta; 0.9 suits --adversarial 0"
    )
    objective.add_argument(
        "--repeat",
        nargs="*",
        default=[],
        metavar="DEFECT=N",
        help="use a defect's rows N times an epoch: for one that is harder or rarer than the others",
    )
    objective.add_argument(
        "--crop", action="store_true", help="random crops of images whose defect is not geometric"
    )
    return p


def resolve_method(args: argparse.Namespace, label_map: LabelMap) -> MethodConfig:
    """The networks and losses that the flags and the label map ask for."""
    unknown = sorted(set(args.geometric_groups) - set(label_map.groups))
    if unknown and args.geometry != "none":
        raise ConfigurationError(
            f"--geometric-groups: {', '.join(unknown)} is no group of the label map ({', '.join(label_map.groups)})"
        )
    geometric = sorted(label_map.groups[name] for name in args.geometric_groups if name in label_map.groups)
    generator = {
        "width": args.width,
        "n_blocks": args.blocks,
        "reduce": args.reduce,
        "inject_init": args.inject_init,
        "head": args.head,
        "geometry": args.geometry,
        "geometric_groups": tuple(geometric) if args.geometry != "none" else (),
    }
    if args.blocks_before_type is not None:
        generator["n_before_eta"] = args.blocks_before_type
    losses = ("adversarial", "reconstruction", "cycle", "identity", "directions", "task_balance")
    return method_config(
        args.recipe,
        n_groups=1 + max(label_map.groups.values()),
        n_types=1 + max(defect.id for defect in label_map.defects.values()),
        generator=generator,
        objective={name: getattr(args, name) for name in losses},
    )


def repeats(items: Sequence[str], label_map: LabelMap) -> tuple[tuple[str, int], ...]:
    """--repeat as (defect, N). Raises ConfigurationError for anything else."""
    found = []
    for item in items:
        defect, _, count = item.partition("=")
        if defect not in label_map.defects or not count.isdecimal() or int(count) < 1:
            raise ConfigurationError(
                f"--repeat {item}: use DEFECT=N with N of 1 or more and one of {', '.join(label_map.defects)}"
            )
        found.append((defect, int(count)))
    return tuple(found)


def settings_from(args: argparse.Namespace, source: TrainingSource, steps: int) -> TrainSettings:
    """The resolved settings, without the task balance (which needs images)."""
    still = frozenset(source.label_map.groups) - frozenset(args.geometric_groups)
    return TrainSettings(
        output=storage.absolute(args.output),
        method=resolve_method(args, source.label_map),
        optimizer=OptimizerConfig(args.rate, args.beta1),
        image_size=args.image_size,
        steps=steps,
        batch_size=args.batch_size,
        seed=args.seed,
        repeat=repeats(args.repeat, source.label_map),
        device=args.device,
        precision=args.precision,
        cycle_groups=still,
        cropped_groups=still if args.crop else frozenset(),
        shuffle_rows=args.shuffle_rows,
        log_every=args.log_every,
        checkpoint_every=args.checkpoint_every,
        grid_every=args.grid_every,
        init_from=None if args.init_from is None else storage.absolute(args.init_from),
    )


def length(args: argparse.Namespace, source: TrainingSource) -> int:
    """Updates to make: --steps, or --epochs times the training pairs (as --repeat uses them) over all batches."""
    if args.epochs is None:
        return int(args.steps or DEFAULT_STEPS)
    batch = args.batch_size * max(args.workers, 1)
    pairs = train_pairs(source, dict(repeats(args.repeat, source.label_map)))
    return max(1, args.epochs * pairs // batch)


def resolve(argv: Sequence[str] | None) -> tuple[argparse.Namespace, TrainSettings, TrainingSource]:
    """Parse and validate everything that needs no training."""
    args = parser().parse_args(argv)
    source = open_source([storage.absolute(uri) for uri in args.data])
    settings = settings_from(args, source, length(args, source))
    if args.workers == 0:  # with workers, their machines decide
        choose_precision(args.precision, choose_device(args.device))
    initial_weights(settings)
    with storage.as_configuration_error(args.output, "--output", "read"):
        occupied = storage.exists(settings.checkpoint)
    if occupied and not (args.resume or args.overwrite):
        raise ConfigurationError(
            f"--output {args.output} holds a training already: --resume continues it, --overwrite replaces it"
        )
    if args.overwrite:
        _check_apart([*args.data, *([args.init_from] if args.init_from else [])], settings.output)
    return args, settings, source


def _check_apart(inputs: Sequence[str], output: str) -> None:
    """Raise ConfigurationError where --overwrite would remove an input."""
    owned = tuple(storage.resolve(storage.join(output, name))[1] + "/" for name in OWNED)
    for uri in inputs:
        if f"{storage.resolve(uri)[1]}/".startswith(owned):
            raise ConfigurationError(f"--overwrite would remove {uri}; choose another --output")


def _remove_training(output: str) -> None:
    with storage.as_configuration_error(output, "--overwrite", "replace"):
        for name in OWNED:
            fs, path = storage.resolve(storage.join(output, name))
            if fs.exists(path):
                fs.rm(path, recursive=True)


def portable_command(argv: Sequence[str], args: argparse.Namespace) -> str:
    """The command line for the model card, which travels: of this machine's paths only their last part stays."""
    given = [*args.data, args.output, *([args.init_from] if args.init_from else [])]
    names = {uri: PurePath(storage.resolve(uri)[1]).name or uri for uri in given if storage.is_local(uri)}
    words = []
    for word in argv:
        flag, equals, value = word.partition("=")
        is_assigned = bool(equals) and flag.startswith("--") and value in names
        words.append(f"{flag}={names[value]}" if is_assigned else names.get(word, word))
    return shlex.join(["python", "jobs/train.py", *words])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    args, settings, source = resolve(argv)
    shown = {
        "settings": describe(settings),
        "output": settings.output,
        "data": args.data,
        "workers": args.workers,
    }
    command.show_configuration(shown)
    if args.dry_run:
        return command.EXIT_OK
    if args.overwrite:
        _remove_training(settings.output)
    command_line = portable_command(sys.argv[1:] if argv is None else argv, args)
    plan = balanced(Plan(settings, source, command_line, args.workers))
    (train_on_ray if args.workers else train_in_process)(plan)
    logger.info("bundle: %s", storage.join(settings.output, "bundle"))
    return command.EXIT_OK


if __name__ == "__main__":
    command.run(main)
