"""A training, resolved: what the command line and the data say, checked before anything starts."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.errors import BundleError, ConfigurationError
from model.generator import build_generator
from model.transfer import transfer_generator
from pipelines.bundles import read_bundle
from pipelines.label_map import LabelMap
from pipelines.training.index import PAIRED, Index, build_index, check_tasks
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


def initial_weights(uri: str, settings: TrainSettings, label_map: LabelMap) -> Mapping[str, Tensor]:
    """Weights of G_XY that start from the bundle --init-from names, whose labels may be others.

    Groups and defects keep what was learned for their names; new ones start afresh. Raises ConfigurationError where
    the architecture differs.
    """
    bundle = read_bundle(uri, "--init-from")
    old = LabelMap.parse(bundle.label_map, f"label map of {uri}")
    torch.manual_seed(settings.seed)  # new labels start alike in every run
    generator = build_generator(settings.method.generator)
    try:
        transfer_generator(
            bundle.generator.state_dict(),
            bundle.generator.config,
            generator,
            {old.groups[name]: id_ for name, id_ in label_map.groups.items() if name in old.groups},
            {
                old.defects[name].id: defect.id
                for name, defect in label_map.defects.items()
                if name in old.defects
            },
        )
    except BundleError:
        raise
    except ConfigurationError as error:
        raise ConfigurationError(f"--init-from {uri}: {error}") from error
    new = sorted(set(label_map.defects) - set(old.defects))
    if new and bundle.generator.config.n_types:
        logger.info("--init-from %s: %s start afresh", uri, ", ".join(new))
    return generator.state_dict()
