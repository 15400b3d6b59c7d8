"""Runs a generator's training: in this process, or on Ray Train workers."""

import copy
import sys
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from model.layers import ImageGenerator
from pipelines.training.display import Display
from pipelines.training.feed.batches import load_here
from pipelines.training.generator.loop import Training
from pipelines.training.generator.observer import Observer
from pipelines.training.generator.plan import Plan
from pipelines.training.generator.validation import Evaluate, Measurement, Validator, measure_here
from pipelines.training.loop import Record
from pipelines.training.on_ray import train_on_worker


def train_in_process(plan: Plan, begin: Callable[[], None]) -> None:
    """Run the whole training here, without Ray: for debugging, and for a machine that has a GPU but no Ray.

    begin: called once all checks have passed, right before the training.
    """
    settings = plan.settings
    begin()
    training = Training(settings, plan.source.label_map, plan.init)
    with Display(settings.steps, settings.update_size, sys.stderr) as display:
        evaluate = measure_here(Validator(settings, plan.source, plan.index)) if plan.is_validated else None
        observer = Observer(plan, display, display.line, evaluate, resumed_at=training.step)
        training.run(plan.index, partial(load_here, decode=settings.decoding), observer)
        observer.finish(training)


def run_worker(config: dict[str, Any]) -> None:
    """Run one Ray Train worker of a generator's training; see `pipelines.training.on_ray.train_on_ray`."""

    def observe(
        plan: Plan, training: Training, report: Callable[[Record], None], show_line: Callable[[str], None]
    ) -> Observer:
        rank = training.rank
        evaluate = measure_in_actor(plan) if rank == 0 and plan.is_validated else None
        return Observer(plan, report, show_line, evaluate, rank, training.step)

    train_on_worker(config, Training, observe)


def measure_in_actor(plan: Plan) -> Evaluate:
    """Return a function that measures in an actor of its own, while the workers continue."""
    import ray

    validator = (
        ray.remote(Validator)
        # No CPUs: it works only now and then. On a small node, CPUs reserved for it would leave none for decoding.
        # SPREAD: outside the workers' own reservation. Restarts: its node may be lost before the worker's.
        .options(num_cpus=0, max_restarts=-1, scheduling_strategy="SPREAD")
        .remote(plan.settings, plan.source, plan.index, threads=1)
    )

    def evaluate(step: int, generator: ImageGenerator) -> "Future[list[Measurement]]":
        return validator.measure.remote(  # type: ignore[attr-defined]
            step, copy.deepcopy(generator).cpu()
        ).future()

    return evaluate
