"""A small training in process, for several test modules."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from model.config import DiscriminatorConfig, GeneratorConfig
from model.recipes import MethodConfig
from model.semi_paired import SemiPairedObjective
from pipelines.shards.index import build_index
from pipelines.shards.source import TrainingSource
from pipelines.training.feed.batches import load_here
from pipelines.training.generator.loop import Training
from pipelines.training.generator.plan import Plan
from pipelines.training.generator.settings import TrainSettings
from pipelines.training.loop import Record

SIZE = 32
SMALL = MethodConfig(
    "proposed",
    GeneratorConfig(n_groups=2, n_types=3, width=4, n_blocks=1, n_before_eta=0),
    DiscriminatorConfig(width=4, n_layers=1),
    SemiPairedObjective(),
)


def settings(output: Path, **changes: Any) -> TrainSettings:
    """Return settings for six updates of two samples."""
    base = TrainSettings(
        output=str(output),
        method=SMALL,
        image_size=SIZE,
        steps=6,
        batch_size=2,
        cycle_groups=frozenset({"background"}),
        log_every=1,
        validate_every=0,
        shuffle_rows=8,
    )
    return replace(base, **changes)


def plan_of(source: TrainingSource, output: Path, **changes: Any) -> Plan:
    """A quarter of the photos of `training_data.write_dataset` validates: p0, p2, p12 and p13."""
    index = build_index(source.shards, source.label_map, 0.25)
    return Plan(settings(output, validation_share=0.25, **changes), source, index, "train")


class Recorder:
    """Keep the records of a training; `on_record` may end it by raising."""

    def __init__(self, on_record: Callable[[Training], None] | None = None) -> None:
        self.records: list[Record] = []
        self.saves: list[int] = []
        self.on_record = on_record

    def record(self, training: Training, record: Record) -> None:
        self.records.append(record)
        if self.on_record is not None:
            self.on_record(training)

    def saved(self, training: Training) -> None:
        self.saves.append(training.step)

    def grid(self, training: Training) -> None:
        pass

    def validate(self, training: Training) -> None:
        pass

    def resumed(self, training: Training) -> None:
        pass


def run(training: Training, source: TrainingSource, follower: Recorder | None = None) -> list[Record]:
    """Run to the end, on all rows of the training split, and return the records."""
    follower = follower or Recorder()
    load = partial(load_here, decode=training.settings.decoding)
    training.run(build_index(source.shards, source.label_map, 0), load, follower)
    return follower.records
