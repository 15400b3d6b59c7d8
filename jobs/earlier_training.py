"""Decide what happens to an earlier training in OUTPUT: it stays, is continued, or is replaced."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import PurePath

from jobs import command, train_flags
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.shards.source import TrainingSource
from pipelines.storage import outputs
from pipelines.training import started
from pipelines.training.best import forget_best
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.plan import LoopPlan
from pipelines.training.settings import LoopSettings


def check(
    args: argparse.Namespace, settings: LoopSettings, source: TrainingSource, owned: Sequence[str]
) -> None:
    """Check that the flags suit the training that OUTPUT holds.

    Raises ConfigurationError if they neither continue nor replace it, if they would continue it with other settings or
    data, or if --overwrite, which removes `owned` from OUTPUT, would remove an input.
    """
    with storage.as_configuration_error(args.output, "--output", "read"):
        occupied = bool(Checkpoints(settings.checkpoints, settings.keep).steps())
    if occupied and not (args.resume or args.overwrite):
        raise ConfigurationError(
            f"--output {args.output} holds a training already: --resume continues it, --overwrite replaces it"
        )
    if occupied and args.resume and not args.overwrite:
        with storage.as_configuration_error(args.output, "--resume", "read"):
            started.check_same(settings, source)
    if args.overwrite:
        inside = outputs.first_inside([*args.data, *_starts(args)], settings.output, owned)
        if inside is not None:
            raise ConfigurationError(f"--overwrite would remove {inside}; choose another --output")


def _starts(args: argparse.Namespace) -> list[str]:
    """Return the URIs of the weights that a training reads, from those flags that its job has."""
    given = (getattr(args, name, None) for name in ("init_from", "encoder_weights", "fid_weights"))
    return [uri for uri in given if uri and uri not in train_flags.ENCODER_WEIGHTS]


def begin(plan: LoopPlan, owned: Sequence[str], p: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Remove an earlier training (--overwrite) or just its temporary files, and record what this one starts with."""
    output = plan.settings.output
    if args.overwrite:
        outputs.remove(output, owned)
    outputs.remove_unfinished(output, owned)
    with storage.as_configuration_error(output, "--output", "write"):
        if not Checkpoints(plan.settings.checkpoints, plan.settings.keep).steps():
            forget_best(output)  # a best bundle without checkpoints is of another training
        started.remember(plan.settings, plan.source)
    command.keep_flags(p, args)


def portable_command(job: str, argv: Sequence[str], args: argparse.Namespace) -> str:
    """Return the command line for the model card, with only the last part of local paths: the card goes elsewhere."""
    given = [*args.data, args.output, *_starts(args), *([args.config] if args.config else [])]
    names = {uri: PurePath(storage.resolve(uri)[1]).name or uri for uri in given if storage.is_local(uri)}
    words = []
    for word in argv:
        flag, equals, value = word.partition("=")
        is_assigned = bool(equals) and flag.startswith("--") and value in names
        words.append(f"{flag}={names[value]}" if is_assigned else names.get(word, word))
    return shlex.join(["python", job, *words])
