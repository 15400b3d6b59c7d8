"""Train the generator on prepared shards, with Ray Train or (--workers 0) in this process.

    python jobs/train.py --data shards --output run --workers 2 --steps 20000 --batch-size 4
    python jobs/train.py --data shards --output run --workers 2 --steps 20000 --batch-size 4 --resume
    ray job submit --working-dir . -- python jobs/train.py --data s3://shop/train --output s3://shop/runs/1 --workers 8

One photo in twenty of the training split is kept for validation (--validation-share), and the test split for
jobs/evaluate.py: neither is trained on. Writes OUTPUT/bundle (the model, for jobs/correct_catalog.py --model),
best.json (its `bundle` names the folder of the model with the best validation score, best/step-N), history.parquet,
validation.parquet, tensorboard/, samples/*.png (columns: input, output, target) and checkpoints/, from which --resume
continues after any crash or kill.
Exit codes: 0 done, 1 broken off (the losses diverged, or a worker kept failing), 2 wrong command line or data,
130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
"""

import argparse
import contextlib
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_type_hints

from torch import Tensor

from jobs import command, earlier_training, train_flags
from model.errors import ConfigurationError
from model.precision import choose_device, choose_precision
from model.recipes import MethodConfig, method_config
from model.training_step import OptimizerConfig
from pipelines import storage
from pipelines.cluster import autoscaling
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.names import check_names
from pipelines.metrics.fid.weights import FidWeightsMissing, find_weights
from pipelines.shards.index import rows_by_defect
from pipelines.shards.source import TrainingSource, open_source
from pipelines.storage.lock import locked
from pipelines.training.best import FOLDER, POINTER, read_best
from pipelines.training.encoder_weights import IMAGENET, NONE
from pipelines.training.generator.job import run_worker, train_in_process
from pipelines.training.generator.plan import (
    Plan,
    balanced,
    check_networks,
    initial_weights,
    inspect,
    pretrained_weights,
)
from pipelines.training.generator.settings import TrainSettings
from pipelines.training.generator.validation import forecast, log_forecast
from pipelines.training.on_ray import check_ray, train_on_ray
from pipelines.training.plan import epoch_steps, find_making
from pipelines.training.settings import describe

logger = logging.getLogger("train")

LOSS_FLAGS = ("adversarial", "reconstruction", "cycle", "identity", "matte", "directions", "task_balance")

#: Parts of a method's configuration that --set changes.
PARTS = ("generator", "discriminator", "objective")

#: All that a training writes to OUTPUT, in the order in which --overwrite removes it: the checkpoints last, because a
#: training is recognised by them.
OWNED = (
    *("ray_train", "samples", "tensorboard", "history.parquet", "validation.parquet"),
    *("bundle", POINTER, FOLDER, "checkpoints"),
)


def resolve_method(args: argparse.Namespace, label_map: LabelMap) -> MethodConfig:
    """Return the networks and losses that the flags and the label map ask for. Raises ConfigurationError."""
    geometric = sorted(label_map.groups[name] for name in geometric_groups(args, label_map))
    moves = args.geometry not in (None, "none")
    if moves and not geometric:
        raise ConfigurationError(
            f"--geometry {args.geometry}: name the groups with --geometric-groups; the label map has "
            f"{', '.join(label_map.groups)}"
        )
    given: dict[str, dict[str, Any]] = {
        "generator": {
            "architecture": args.architecture,
            "encoder": args.encoder,
            "freeze_norms": _freeze_norms(args),
            "width": args.width,
            "n_blocks": args.blocks,
            "n_before_eta": args.blocks_before_type,
            "reduce": args.reduce,
            "inject_init": args.inject_init,
            "head": args.head,
            "geometry": args.geometry,
            "geometric_groups": tuple(geometric) if moves else None,
        },
        "discriminator": {},
        "objective": {name: getattr(args, name) for name in LOSS_FLAGS},
    }
    kinds = _setting_types(args.recipe)
    # If a name occurs twice, the last --set counts.
    chosen: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for item in args.set:
        part, name, value = _setting(item)
        kind = kinds[part].get(name)
        if kind is not None and not _fits(value, kind):
            raise ConfigurationError(f"--set {item}: {part}.{name} takes {_KINDS[kind]}")
        if (flagged := given[part].get(name)) not in (None, value):
            raise ConfigurationError(
                f"--set {item}: a flag sets {part}.{name} to {flagged}; leave one of the two out"
            )
        chosen[part][name] = value
    for part, values in chosen.items():
        given[part] |= values
    return method_config(
        args.recipe,
        n_groups=1 + max(label_map.groups.values()),
        n_types=1 + max(defect.id for defect in label_map.defects.values()),
        image_size=args.image_size,
        **{part: {k: v for k, v in values.items() if v is not None} for part, values in given.items()},
    )


def _freeze_norms(args: argparse.Namespace) -> bool | None:
    """Return --freeze-norms; False for an encoder without pretrained weights, which has no statistics to keep."""
    return False if args.freeze_norms is None and args.encoder_weights == NONE else args.freeze_norms


#: The types of settings, in words.
_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    tuple[int, ...]: "a list of whole numbers, as [0, 2]",
}


def _setting_types(recipe: str) -> dict[str, dict[str, Any]]:
    """Return the type of each setting by part and name."""
    own = method_config(recipe, n_groups=1, n_types=1)
    return {part: get_type_hints(type(getattr(own, part))) for part in PARTS}


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value that JSON gave has a setting's type; a whole number is also accepted as a number."""
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind == tuple[int, ...]:
        return isinstance(value, tuple) and all(type(item) is int for item in value)
    return type(value) is kind


def _setting(item: str) -> tuple[str, str, Any]:
    """Return the parts of --set PART.NAME=VALUE. Raises ConfigurationError for any other text."""
    path, equals, text = item.partition("=")
    part, dot, name = path.partition(".")
    if not (equals and dot and name) or part not in PARTS:
        raise ConfigurationError(f"--set {item}: use PART.NAME=VALUE, PART one of {', '.join(PARTS)}")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return part, name, tuple(value) if isinstance(value, list) else value


def geometric_groups(args: argparse.Namespace, label_map: LabelMap) -> frozenset[str]:
    """Return --geometric-groups. Raises ConfigurationError for a name that the label map lacks."""
    if args.geometric_groups is None:
        return frozenset({train_flags.GEOMETRIC_GROUP} & label_map.groups.keys())
    check_names("--geometric-groups", "group", args.geometric_groups, label_map.groups)
    return frozenset(args.geometric_groups)


def repeats(items: Sequence[str], label_map: LabelMap) -> tuple[tuple[str, int], ...]:
    """Return --repeat as pairs (defect, N). Raises ConfigurationError for any other text."""
    pairs = []
    for item in items:
        defect, _, count = item.partition("=")
        if not count.isdecimal() or int(count) < 1:
            raise ConfigurationError(
                f"--repeat {item}: use DEFECT=N with N of 1 or more and one of {', '.join(label_map.defects)}"
            )
        check_names(f"--repeat {item}", "defect", [defect], label_map.defects)
        pairs.append((defect, int(count)))
    return tuple(pairs)


def flipped(args: argparse.Namespace, label_map: LabelMap) -> frozenset[str]:
    """Return --flip. Raises ConfigurationError for a name that is no defect, and for a geometric defect."""
    check_names("--flip", "defect", args.flip, label_map.defects)
    geometric = geometric_groups(args, label_map)
    for name in args.flip:
        if label_map.defects[name].group in geometric:
            raise ConfigurationError(
                f"--flip {name}: its group is in --geometric-groups; mirroring would change it"
            )
    return frozenset(args.flip)


def settings_from(args: argparse.Namespace, source: TrainingSource) -> TrainSettings:
    """Return the settings, except those that depend on the data: task balance, making, and the length of --epochs."""
    geometric = geometric_groups(args, source.label_map)
    cyclic = source.label_map.cyclic(geometric)
    if source.label_map.cycle_groups is None:
        logger.info(
            "label_map.yaml has no cycle_groups: pairs of groups that are not geometric take cycle and identity (%s)",
            ", ".join(sorted(cyclic)) or "none",
        )
    return TrainSettings(
        output=storage.absolute(args.output),
        method=resolve_method(args, source.label_map),
        optimizer=OptimizerConfig(
            args.rate, args.beta1, args.beta2, encoder_rate=args.encoder_rate, clip=args.clip
        ),
        fit=args.fit,
        steps=args.steps or train_flags.DEFAULT_STEPS,
        accumulate=args.accumulate,
        ema=args.ema,
        repeat=repeats(args.repeat, source.label_map),
        compile=args.compile,
        cycle_groups=cyclic,
        cropped_groups=frozenset(source.label_map.groups) - geometric if args.crop else frozenset(),
        flipped_defects=flipped(args, source.label_map),
        grid_every=args.grid_every,
        validate_every=args.validate_every,
        fid_weights=None if args.fid_weights is None else storage.absolute(args.fid_weights),
        **train_flags.shared_settings(args),
    )


def check_fid_weights(settings: TrainSettings) -> bool:
    """Return whether validation measures FID; log if not. Raises ConfigurationError for a wrong --fid-weights."""
    if not settings.validate_every:
        return False
    try:
        find_weights(settings.fid_weights)
    except FidWeightsMissing as error:
        logger.warning("validation measures L1 and PSNR only: %s", error)
        return False
    return True


def resolve(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Plan]:
    """Parse and check the command line and the data; return the arguments and the plan. Raises ConfigurationError."""
    argv = sys.argv[1:] if argv is None else argv
    args = train_flags.parser(__doc__).parse_args(argv)
    source = open_source([storage.absolute(uri) for uri in args.data])
    settings = settings_from(args, source)
    if args.workers[1] == 0:  # otherwise the machines of the workers decide
        choose_precision(args.precision, choose_device(args.device))
    check_networks(settings)
    init, encoder = _start(args, settings, source.label_map)
    has_weights = check_fid_weights(settings)
    earlier_training.check(args, settings, source, OWNED)
    index = inspect(source, settings, args.allow_missing)
    settings = replace(settings, making=find_making(source, index, settings.seed))
    validated = forecast(index, source.label_map, settings, has_weights)
    log_forecast(validated, settings, has_weights)
    each = epoch_steps(settings, index, source.label_map, max(1, args.workers[1]))
    if args.epochs is not None:
        settings = replace(settings, steps=args.epochs * each)
    return args, Plan(
        settings,
        source,
        index,
        earlier_training.portable_command("jobs/train.py", argv, args),
        args.workers,
        init,
        validated,
        encoder,
    )


def _start(
    args: argparse.Namespace, settings: TrainSettings, label_map: LabelMap
) -> tuple[Mapping[str, Tensor] | None, Mapping[str, str] | None]:
    """Return the weights that G_XY starts from, and the origin of its encoder's. --init-from wins over ImageNet."""
    if args.init_from:
        return initial_weights(storage.absolute(args.init_from), settings, label_map)
    if settings.method.generator.architecture != "pretrained_unet":
        if args.encoder_weights is not None:
            raise ConfigurationError("--encoder-weights needs --architecture pretrained_unet")
        return None, None
    init, encoder = pretrained_weights(args.encoder_weights or IMAGENET, settings)
    if encoder is not None:
        logger.info("encoder weights: %s", encoder.source)
    return init, encoder.describe() if encoder is not None else None


def main(argv: Sequence[str] | None = None) -> int:
    """Train a generator and return the exit code. Raises CatalogRepairError for what the user must change."""
    with storage.impatient():
        args, plan = resolve(argv)
    shown = {
        "settings": describe(plan.settings),
        "output": plan.settings.output,
        "data": args.data,
        "rows": rows_by_defect(plan.index, plan.source.label_map),
        "validation": plan.validation,
        "workers": args.workers,
    }
    command.show_configuration(train_flags.parser(__doc__), args, shown)
    if args.dry_run:
        return command.EXIT_OK
    autoscaling.declare(args.autoscaling)
    if args.workers[1]:
        check_ray()
    with locked(plan.settings.output, args.break_lock, args.wait_for_lock) as lock:
        if lock.waited:  # the other run has changed what was looked at
            args, plan = resolve(argv)
        plan = balanced(plan)
        # The earlier training is removed only after all checks of this one have passed.
        begin = partial(earlier_training.begin, plan, OWNED, train_flags.parser(__doc__), args)
        if args.workers[1]:
            train_on_ray(plan, begin, run_worker)
        else:
            train_in_process(plan, begin)
        lock.confirm()
    _log_bundles(plan.settings.output)
    return command.EXIT_OK


def _log_bundles(output: str) -> None:
    """Log where the last bundle and the best one are."""
    logger.info("bundle: %s", storage.join(output, "bundle"))
    with contextlib.suppress(*storage.STORAGE_ERRORS):
        best = read_best(output)
        if best is not None:
            logger.info("best bundle: %s (of step %d)", storage.join(output, best.bundle), best.step)


if __name__ == "__main__":
    command.run(
        main,
        "the same command with --resume continues from the newest checkpoint; --overwrite starts afresh",
    )
