"""With what a training was started, kept beside its checkpoints, so that --resume can say what is different now."""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from model.errors import ConfigurationError
from pipelines.shards.source import TrainingSource
from pipelines.storage import objects as storage
from pipelines.training.settings import LoopSettings, describe

logger = logging.getLogger("train")

#: Settings that change how long a training runs, where, and what is seen of it, but not what it learns from a sample;
#: task_weight follows from the data and the objective.
NO_DIFFERENCE = frozenset(
    {
        *("steps", "device", "compile", "log_every", "checkpoint_every", "keep", "grid_every"),
        *("validate_every", "validation_images", "task_weight"),
    }
)
#: Other networks, or another method on the same ones.
FIXED = ("method.recipe", "method.generator.", "method.discriminator.", "detector.")


def remember(settings: LoopSettings, source: TrainingSource) -> None:
    """Write what `check_same` compares with. Raises one of storage.STORAGE_ERRORS."""
    storage.write_bytes(_uri(settings), json.dumps(_facts(settings, source), indent=2).encode())


def check_same(settings: LoopSettings, source: TrainingSource) -> None:
    """Warn of settings and data that differ from those that the training in settings.output was started with.

    They may: a lower rate after a divergence, more data. Raises ConfigurationError for another recipe or other
    networks, which would be neither the one nor the other, and one of storage.STORAGE_ERRORS.
    """
    try:
        before = dict(_flat(json.loads(storage.read_bytes(_uri(settings)))))
    except FileNotFoundError:
        return
    except (ValueError, AttributeError):
        logger.warning("%s is damaged: what the training was started with is not known", _uri(settings))
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
        if name == "validation_share" and (is_ or 0) > (was or 0):  # None: started before there was one
            logger.warning(
                "--resume: photos that this training has learned from are among those that it is validated by now; "
                "--validation-share %g goes on as before",
                was or 0,
            )


def _uri(settings: LoopSettings) -> str:
    return storage.join(settings.checkpoints, "started.json")


def _facts(settings: LoopSettings, source: TrainingSource) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists."""
    kept = {name: value for name, value in describe(settings).items() if name not in NO_DIFFERENCE}
    found: dict[str, Any] = json.loads(json.dumps({"settings": kept, "data": source.describe()}))
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
