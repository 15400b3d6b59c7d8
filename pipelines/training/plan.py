"""Resolves what every training needs before it starts: its plan, pairs that are made anew, the length of an epoch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.shards.index import MADE, PAIRED, SOURCE, Index
from pipelines.shards.reading import Making
from pipelines.shards.source import TrainingSource
from pipelines.synthesis.defects.registry import CLEAN_UP, synthesis
from pipelines.training.feed.batches import orders_of
from pipelines.training.feed.order import epoch_draws
from pipelines.training.feed.selected import spread
from pipelines.training.settings import LoopSettings

#: Photos of --data whose backgrounds products are laid on. Each decoding process holds them (a quarter of a megabyte).
BACKGROUND_PHOTOS = 160


@dataclass(frozen=True)
class LoopPlan:
    """Hold everything that a worker needs for a training, of any networks.

    workers: (fewest, most) Ray Train workers; (0, 0) means this process. command_line: for the model card. init:
    initial weights, or None.
    """

    settings: LoopSettings
    source: TrainingSource
    index: Index
    command_line: str
    workers: tuple[int, int] = (0, 0)
    init: Mapping[str, Tensor] | None = None


def find_making(source: TrainingSource, index: Index, seed: int) -> Making:
    """Return how the data's pairs are made anew in every epoch.

    Raises ConfigurationError if the data has such pairs of a defect without a known synthesis.
    """
    for name, defect in source.label_map.defects.items():
        if name not in source.syntheses and index.having(defect.id, MADE).any():
            raise ConfigurationError(
                f"--data has pairs of {name} to be made anew, but dataset.json does not say by which synthesis; "
                "prepare it again with jobs/prepare_dataset.py"
            )
    for name in source.syntheses.values():
        synthesis(name)
    background_types = [
        source.label_map.defects[name].id
        for name, made_by in source.syntheses.items()
        if made_by == CLEAN_UP and name in source.label_map.defects
    ]
    photos = np.flatnonzero(
        np.isin(index.types, background_types)
        & index.training
        & (index.kinds & (PAIRED | SOURCE | MADE) == PAIRED | SOURCE)
    )
    chosen = photos[spread(len(photos), BACKGROUND_PHOTOS)]
    return Making(seed, tuple(sorted(source.syntheses.items())), tuple(orders_of(index, np.sort(chosen))))


def epoch_steps(settings: LoopSettings, index: Index, label_map: LabelMap, workers: int) -> int:
    """Return the number of updates of one epoch. Raises ConfigurationError if that is 0."""
    draws = epoch_draws(index, settings.sampling(label_map))
    steps = draws // workers // settings.update_size
    if not steps:
        raise ConfigurationError(
            f"an epoch holds {draws} samples, fewer than one update of {workers} x {settings.update_size}: "
            "use a smaller --batch-size, fewer --workers or more data"
        )
    return steps
