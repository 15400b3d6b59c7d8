"""What OUTPUT holds of an earlier training: kept, continued or replaced."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import PurePath

from jobs import command, train_flags
from model.errors import ConfigurationError
from pipelines.shards.source import TrainingSource
from pipelines.storage import objects as storage
from pipelines.storage import outputs
from pipelines.training import started
from pipelines.training.best import forget_best
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.plan import LoopPlan
from pipelines.training.settings import LoopSettings


def check(
    args: argparse.Namespace, settings: LoopSettings, source: TrainingSource, owned: Sequence[str]
) -> None:
    """Raise ConfigurationError where OUTPUT holds a training that the flags neither continue nor replace, or continue
    as another one, or where --overwrite, which removes `owned` in OUTPUT, would remove an input.
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
    """What else a training reads, by the flags that its job has."""
    given = (getattr(args, name, None) for name in ("init_from", "encoder_weights", "fid_weights"))
    return [uri for uri in given if uri and uri not in train_flags.ENCODER_WEIGHTS]


def begin(plan: LoopPlan, owned: Sequence[str], p: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Remove an earlier training where it may be replaced, and remember what this one was started with."""
    output = plan.settings.output
    if args.overwrite:
        outputs.remove(output, owned)
    with storage.as_configuration_error(output, "--output", "write"):
        if not Checkpoints(plan.settings.checkpoints, plan.settings.keep).steps():
            forget_best(output)  # its checkpoints were removed by hand: it is of another training
        started.remember(plan.settings, plan.source)
    command.keep_flags(p, args)


def portable_command(job: str, argv: Sequence[str], args: argparse.Namespace) -> str:
    """The command line for the model card, which travels: of this machine's paths only their last part stays."""
    given = [*args.data, args.output, *_starts(args), *([args.config] if args.config else [])]
    names = {uri: PurePath(storage.resolve(uri)[1]).name or uri for uri in given if storage.is_local(uri)}
    words = []
    for word in argv:
        flag, equals, value = word.partition("=")
        is_assigned = bool(equals) and flag.startswith("--") and value in names
        words.append(f"{flag}={names[value]}" if is_assigned else names.get(word, word))
    return shlex.join(["python", job, *words])
