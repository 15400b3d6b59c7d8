"""Runs a generator's training in this process. For Ray Train's workers see `training.on_ray`."""

import sys
from collections.abc import Callable
from functools import partial

from pipelines.training.display import Display
from pipelines.training.feed.batches import load_here
from pipelines.training.generator.loop import Training
from pipelines.training.generator.observer import Observer
from pipelines.training.generator.validation import Validator, measure_here
from pipelines.training.plan import Plan


def train_in_process(plan: Plan, begin: Callable[[], None]) -> None:
    """Run the whole training here, without Ray: for debugging, and for a machine that has a GPU but no Ray.

    begin: called once all checks have passed, right before the training.
    """
    settings = plan.settings
    begin()
    training = Training(settings, plan.source.label_map, plan.init)
    with Display(settings.steps, settings.update_size, sys.stderr) as display:
        evaluate = measure_here(Validator(settings, plan.source, plan.index)) if plan.can_validate else None
        observer = Observer(plan, display, display.line, evaluate, resumed_at=training.step)
        training.run(plan.index, partial(load_here, decode=settings.decoding), observer)
        observer.finish(training)
