"""Train the generator on prepared shards, with Ray Train or (--workers 0) in this process.

    python jobs/train.py --data shards --output run --workers 2 --steps 20000 --batch-size 4
    python jobs/train.py --data shards --output run --workers 2 --steps 20000 --batch-size 4 --resume
    ray job submit --working-dir . -- python jobs/train.py --data s3://shop/train --output s3://shop/runs/1 --workers 8

Writes OUTPUT/bundle (the model, for jobs/correct_catalog.py --model), OUTPUT/history.csv, OUTPUT/samples/*.png (columns:
input, output, target) and OUTPUT/checkpoint.pt, from which --resume continues after any kind of death.
Exit codes: 0 done, 2 wrong command line or input.
"""

import argparse
import csv
import io
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jobs import command
from model.bundle import load_bundle
from model.config import GEOMETRIES, HEADS, INJECT_INITS, REDUCTIONS, DiscriminatorConfig, GeneratorConfig
from model.errors import ConfigurationError
from model.objective import DIRECTIONS, TASK_BALANCES, ObjectiveConfig
from model.precision import DEVICES, PRECISIONS, choose_device, choose_precision
from model.training_step import OptimizerConfig
from pipelines import storage
from pipelines.label_map import LabelMap
from pipelines.training import Training, TrainSettings
from pipelines.training_outputs import grid_png, scores, write_bundle
from pipelines.training_source import (
    TrainingSource,
    do_nothing_errors,
    first_pairs,
    local_rows,
    open_source,
    task_weights,
)

logger = logging.getLogger("train")

#: Trusted pairs per defect that fix the task balance, and held-back ones that are scored at the end.
BALANCE_PAIRS, SCORE_PAIRS = 128, 60


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
    length.add_argument("--steps", type=_positive, metavar="N", help="length in updates (default: 20000)")
    length.add_argument(
        "--epochs", type=_positive, metavar="N", help="length in passes over the training pairs"
    )
    add("--image-size", type=_positive, default=256, help="training resolution in pixels; a multiple of 4")
    add("--batch-size", type=_positive, default=1, help="samples per worker and update")
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
        help="continue from OUTPUT's checkpoint; --steps may be larger than before",
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
        type=_not_negative,
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
    machine.add_argument("--checkpoint-every", type=_positive, default=500, metavar="STEPS")
    machine.add_argument(
        "--grid-every", type=_positive, default=500, metavar="STEPS", help="how often samples/*.png are drawn"
    )
    machine.add_argument("--log-every", type=_positive, default=20, metavar="STEPS")
    network = p.add_argument_group("network")
    network.add_argument(
        "--width", type=_positive, default=64, help="channels after the first convolution; 32 suits CPUs"
    )
    network.add_argument(
        "--blocks", type=_not_negative, default=9, help="residual blocks; 6 is usual below 256 pixels"
    )
    network.add_argument(
        "--blocks-before-type",
        type=_not_negative,
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
        "--crop", action="store_true", help="random crops of images whose defect is not geometric"
    )
    return p


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {value}")
    return value


def generator_config(args: argparse.Namespace, label_map: LabelMap) -> GeneratorConfig:
    """The architecture that the flags and the label map ask for."""
    unknown = sorted(set(args.geometric_groups) - set(label_map.groups))
    if unknown and args.geometry != "none":
        raise ConfigurationError(
            f"--geometric-groups: {', '.join(unknown)} is no group of the label map ({', '.join(label_map.groups)})"
        )
    geometric = sorted(label_map.groups[name] for name in args.geometric_groups if name in label_map.groups)
    before = args.blocks_before_type if args.blocks_before_type is not None else round(args.blocks * 4 / 9)
    return GeneratorConfig(
        n_groups=1 + max(label_map.groups.values()),
        n_types=1 + max(defect.id for defect in label_map.defects.values()),
        width=args.width,
        n_blocks=args.blocks,
        n_before_eta=before,
        reduce=args.reduce,
        inject_init=args.inject_init,
        head=args.head,
        geometry=args.geometry,
        geometric_groups=tuple(geometric) if args.geometry != "none" else (),
    )


def settings_from(args: argparse.Namespace, source: TrainingSource, steps: int) -> TrainSettings:
    """The resolved settings, without the task balance (which needs images)."""
    still = frozenset(source.label_map.groups) - frozenset(args.geometric_groups)
    return TrainSettings(
        output=storage.absolute(args.output),
        generator=generator_config(args, source.label_map),
        discriminator=DiscriminatorConfig(width=args.width),
        objective=ObjectiveConfig(
            args.adversarial,
            args.reconstruction,
            args.cycle,
            args.identity,
            args.directions,
            args.task_balance,
        ),
        optimizer=OptimizerConfig(args.rate, args.beta1),
        image_size=args.image_size,
        steps=steps,
        batch_size=args.batch_size,
        seed=args.seed,
        device=args.device,
        precision=args.precision,
        cycle_groups=still,
        cropped_groups=still if args.crop else frozenset(),
        log_every=args.log_every,
        checkpoint_every=args.checkpoint_every,
        grid_every=args.grid_every,
        init_from=args.init_from,
    )


class Observer:
    """What rank 0 does while training: a line of progress, sample grids, the history, and at the end the bundle."""

    def __init__(self, settings: TrainSettings, source: TrainingSource, command_line: str) -> None:
        self.settings, self.source, self.command_line = settings, source, command_line
        self.held_back = first_pairs(source, "test", SCORE_PAIRS, settings.image_size)

    def report(self, record: dict[str, float]) -> None:
        """Log one line of progress."""
        left = (
            (self.settings.steps - record["step"])
            * self.settings.batch_size
            / max(record["images_per_second"], 1e-9)
        )
        names = ("total", "reconstruction", "adversarial", "cycle", "identity", "discriminator")
        losses = "  ".join(f"{name} {record[name]:.4f}" for name in names if record.get(name))
        logger.info(
            "step %d/%d  epoch %d  %.1f images/s  %d min left  %s",
            record["step"], self.settings.steps, record["epoch"], record["images_per_second"], left / 60, losses,
        )  # fmt: skip

    def grid(self, training: Training) -> None:
        """Write samples/step-N.png and history.csv (rank 0)."""
        if training.rank:
            return
        if self.held_back:
            png = grid_png(training.networks.g_xy, self.source.label_map, self.held_back)
            storage.write_bytes(
                storage.join(self.settings.output, "samples", f"step-{training.step:06d}.png"), png
            )
        if training.history:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(training.history[-1]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(training.history)
            storage.write_bytes(storage.join(self.settings.output, "history.csv"), text.getvalue().encode())

    def finish(self, training: Training) -> None:
        """Score on held-back pairs and write the bundle (rank 0)."""
        if training.rank:
            return
        generator = training.networks.g_xy.eval()
        settings, label_map = self.settings, self.source.label_map
        details = {
            "recipe": "proposed",
            "conditions": {
                "groups": label_map.groups,
                "types": {d.name: d.id for d in label_map.defects.values()},
            },
            "dataset": self.source.describe(),
            "scores": scores(generator, label_map, self.held_back),
            "training": plain(settings),
        }
        uri = write_bundle(
            settings.output,
            generator,
            label_map,
            settings.image_size,
            self.command_line,
            details,
            training.history,
        )
        logger.info("bundle: %s  scores: %s", uri, details["scores"])


def plain(settings: TrainSettings) -> dict[str, Any]:
    """The settings as JSON values, without where things lie on this machine."""
    values = asdict(settings)
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in values.items()
        if name not in ("output", "init_from")
    }


def train_in_process(settings: TrainSettings, source: TrainingSource, command_line: str) -> None:
    """The whole loop here, without Ray: for a person debugging, and for a machine that has a GPU but no Ray."""
    observer = Observer(settings, source, command_line)
    training = Training(settings, source.label_map, initial_weights(settings))

    def rows(epoch: int) -> Any:
        return local_rows(source, epoch, settings.image_size, settings.cropped_groups, settings.uses_unpaired)

    training.run(rows, observer.report, observer.grid)
    observer.finish(training)


def initial_weights(settings: TrainSettings) -> Any:
    """The weights that --init-from names, or None. Raises ConfigurationError where the architecture differs."""
    if settings.init_from is None:
        return None
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        bundle = load_bundle(storage.fetch_folder(settings.init_from, Path(folder)))
    if bundle.generator.config != settings.generator:
        raise ConfigurationError(
            f"--init-from {settings.init_from} has another architecture: {bundle.generator.config}, not {settings.generator}"
        )
    return bundle.generator.state_dict()


def resolve(argv: Sequence[str] | None) -> tuple[argparse.Namespace, TrainSettings, TrainingSource]:
    """Parse and validate everything that needs no training."""
    args = parser().parse_args(argv)
    source = open_source([storage.absolute(uri) for uri in args.data])
    settings = settings_from(args, source, args.steps or 20000)
    choose_precision(args.precision, choose_device(args.device))
    if storage.exists(settings.checkpoint) and not (args.resume or args.overwrite):
        raise ConfigurationError(
            f"--output {args.output} holds a training already: --resume continues it, --overwrite replaces it"
        )
    if args.resume and not storage.exists(settings.checkpoint):
        raise ConfigurationError(
            f"--resume: no checkpoint at {settings.checkpoint}; leave the flag away to start"
        )
    return args, settings, source


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    args, settings, source = resolve(argv)
    command.show_configuration({"settings": plain(settings), "output": settings.output, "data": args.data})
    if args.dry_run:
        return command.EXIT_OK
    if args.overwrite and storage.exists(settings.checkpoint):
        fs, path = storage.resolve(settings.checkpoint)
        fs.rm_file(path)
    if settings.objective.task_balance == "baseline":
        errors = do_nothing_errors(first_pairs(source, "train", BALANCE_PAIRS, settings.image_size))
        logger.info("do-nothing L1 per defect: %s", errors)
        settings = replace(settings, task_weight=task_weights(source.label_map, errors))
    command_line = shlex.join(["python", "jobs/train.py", *(argv if argv is not None else sys.argv[1:])])
    if args.workers == 0:
        train_in_process(settings, source, command_line)
    return command.EXIT_OK


if __name__ == "__main__":
    command.run(main)
