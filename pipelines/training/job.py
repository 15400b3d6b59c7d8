"""Wires a training into this process. On Ray Train's workers: `ray_job`."""

import logging
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from model.bundle import load_bundle
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.training.display import Display
from pipelines.training.feed import load_here
from pipelines.training.index import PAIRED, Index, build_index, check_tasks
from pipelines.training.loop import Training
from pipelines.training.observer import Observer
from pipelines.training.settings import TrainSettings
from pipelines.training.source import TrainingSource, do_nothing_errors, some_rows, task_weights

logger = logging.getLogger("train")

#: Trusted pairs per defect that fix the task balance.
BALANCE_PAIRS = 128


@dataclass(frozen=True)
class Plan:
    """A training, resolved: everything a worker needs.

    workers: (fewest, most) Ray Train workers; (0, 0) is this process. command_line goes into the model card. init:
    weights of G_XY to start from, or None.
    """

    settings: TrainSettings
    source: TrainingSource
    index: Index
    command_line: str
    workers: tuple[int, int] = (0, 0)
    init: Mapping[str, Tensor] | None = None


def inspect(source: TrainingSource, settings: TrainSettings, allow_missing: bool) -> Index:
    """The data's index. Raises ConfigurationError for everything in the data that would make the training fail."""
    index = build_index(source.shards, source.label_map)
    method = settings.method
    check_tasks(
        index,
        source.label_map,
        pairs=method.uses_pairs,
        unpaired=method.uses_unpaired,
        allow_missing=allow_missing,
    )
    return index


def balanced(plan: Plan) -> Plan:
    """The plan with the task balance measured, where it asks for one."""
    settings = plan.settings
    if not settings.method.balances_tasks:
        return plan
    pairs = some_rows(plan.source, plan.index, PAIRED, 0, BALANCE_PAIRS, settings.validation_decoding)
    errors = do_nothing_errors(pairs)
    logger.info("do-nothing L1 per defect: %s", {name: round(error, 4) for name, error in errors.items()})
    return replace(plan, settings=replace(settings, task_weight=task_weights(plan.source.label_map, errors)))


def initial_weights(uri: str, settings: TrainSettings) -> Mapping[str, Tensor]:
    """The weights that --init-from names. Raises ConfigurationError where the architecture differs."""
    with tempfile.TemporaryDirectory() as folder:
        with storage.as_configuration_error(uri, "--init-from", "read"):
            local = storage.fetch_folder(uri, Path(folder))
        bundle = load_bundle(local)
    if bundle.generator.config != settings.method.generator:
        raise ConfigurationError(
            f"--init-from {uri} has another architecture: {bundle.generator.config}, "
            f"not {settings.method.generator}; give the same --width, --blocks, --head and --geometry"
        )
    return bundle.generator.state_dict()


def train_in_process(plan: Plan) -> None:
    """The whole training here, without Ray: for a person debugging, and for a machine that has a GPU but no Ray."""
    settings, source = plan.settings, plan.source
    training = Training(settings, source.label_map, plan.init)
    with Display(settings.steps, settings.update_size, sys.stderr) as display:
        observer = Observer(settings, source, plan.index, plan.command_line, display)
        training.run(plan.index, partial(load_here, decode=settings.decoding), observer)
        observer.finish(training)
