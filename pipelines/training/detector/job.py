"""Runs a detector's training: in this process, or on Ray Train workers."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from pipelines.training.detector.loop import DetectorTraining
from pipelines.training.detector.outputs import DetectorObserver
from pipelines.training.detector.plan import DetectorPlan
from pipelines.training.display import Display
from pipelines.training.feed.batches import load_here
from pipelines.training.loop import Record
from pipelines.training.on_ray import train_on_worker


def train_in_process(plan: DetectorPlan, begin: Callable[[], None]) -> None:
    """Run the whole training here, without Ray.

    begin: called once all checks have passed, right before the training.
    """
    settings = plan.settings
    begin()
    training = DetectorTraining(settings, plan.source.label_map, plan.init)
    with Display(settings.steps, settings.update_size, sys.stderr) as display:
        observer = DetectorObserver(plan, display)
        training.run(plan.index, partial(load_here, decode=settings.decoding), observer)
        observer.finish(training)


def run_worker(config: dict[str, Any]) -> None:
    """Run one Ray Train worker of a detector's training; see `pipelines.training.on_ray.train_on_ray`."""

    def observe(
        plan: DetectorPlan,
        training: DetectorTraining,
        report: Callable[[Record], None],
        _: Callable[[str], None],
    ) -> DetectorObserver:
        return DetectorObserver(plan, report, training.rank)

    train_on_worker(config, DetectorTraining, observe)
