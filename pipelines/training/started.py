"""Records with which settings and data a training was started, so that --resume can report what has changed."""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.shards.source import TrainingSource
from pipelines.training.settings import LoopSettings, describe

logger = logging.getLogger("train")

#: Settings that change how long and where a training runs and what it shows, but not what it learns from a sample.
#: defect_weight follows from the data and the objective.
NO_DIFFERENCE = frozenset(
    {
        *("steps", "device", "compile", "log_every", "checkpoint_every", "keep", "grid_every"),
        *("validate_every", "validation_images", "defect_weight"),
    }
)
#: Prefixes of the settings that --resume cannot change: they mean other networks, or another method for the same ones.
FIXED = ("method.recipe", "method.generator.", "method.discriminator.", "detector.")


def remember(settings: LoopSettings, source: TrainingSource) -> None:
    """Write the record that `check_same` compares with. Raises one of storage.STORAGE_ERRORS."""
    storage.write_bytes(_uri(settings), json.dumps(_facts(settings, source), indent=2).encode())


def check_same(settings: LoopSettings, source: TrainingSource) -> None:
    """Warn of settings and data that differ from those with which the training in settings.output was started.

    Such changes may be intended: a lower rate after a divergence, more data. Raises ConfigurationError if the recipe or
    the networks differ, because the result would be a mixture of both; and one of storage.STORAGE_ERRORS.
    """
    try:
        before = dict(_flat(json.loads(storage.read_bytes(_uri(settings)))))
    except FileNotFoundError:
        return
    except (ValueError, AttributeError):
        logger.warning("%s is damaged: the training's original settings are unknown", _uri(settings))
        return
    now = dict(_flat(_facts(settings, source)))
    different = {
        name.removeprefix("settings."): (now.get(name), before.get(name))
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name)
    }
    fixed = [f"{name} {was} (not {is_})" for name, (is_, was) in different.items() if name.startswith(FIXED)]
    if fixed:
        raise ConfigurationError(
            f"--resume: the training in {settings.output} was started with {', '.join(fixed)}; "
            "give the same flags, or another --output"
        )
    for name, (is_, was) in different.items():
        logger.warning("--resume: %s is %s now, and was %s", name, is_, was)
        # None: the training was started before this setting existed.
        if name == "validation_share" and (is_ or 0) > (was or 0):
            logger.warning(
                "--resume: validation now includes photos that this training has already learned from; "
                "--validation-share %g keeps them apart as before",
                was or 0,
            )


def _uri(settings: LoopSettings) -> str:
    return storage.join(settings.checkpoints, "started.json")


def _facts(settings: LoopSettings, source: TrainingSource) -> dict[str, Any]:
    """Return settings and data as they are after a round trip through JSON: tuples are lists."""
    kept = {name: value for name, value in describe(settings).items() if name not in NO_DIFFERENCE}
    facts: dict[str, Any] = json.loads(json.dumps({"settings": kept, "data": source.describe()}))
    return facts


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
