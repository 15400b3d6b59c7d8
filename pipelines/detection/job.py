"""Runs a detector's training: in this process, or on Ray Train workers."""

import contextlib
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from pipelines.detection.loop import DetectorTraining
from pipelines.detection.outputs import DetectorObserver
from pipelines.detection.plan import DetectorPlan
from pipelines.training.display import Display
from pipelines.training.feed import load_here
from pipelines.training.loop import DivergedError, Record


def train_in_process(plan: DetectorPlan, begin: Callable[[], None]) -> None:
    """The whole training here, without Ray. begin: called when nothing is left to check and the training begins."""
    settings = plan.settings
    begin()
    training = DetectorTraining(settings, plan.source.label_map, plan.init)
    with Display(settings.steps, settings.update_size, sys.stderr) as display:
        observer = DetectorObserver(plan, display)
        training.run(plan.index, partial(load_here, decode=settings.decoding), observer)
        observer.finish(training)


def run_worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs; see `pipelines.training.ray_job.train_on_ray`."""
    import ray
    from ray import train
    from ray.exceptions import RayError

    from pipelines.training.ray_feed import load_on_ray
    from pipelines.training.ray_job import feeding_tasks

    plan: DetectorPlan = ray.get(config["plan"])
    settings, context = plan.settings, train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    logging.getLogger("train").setLevel(logging.INFO)
    torch.set_num_threads(max(1, int(config["cpus"])))
    training = DetectorTraining(settings, plan.source.label_map, plan.init, rank, workers)

    def report(record: Record) -> None:
        with contextlib.suppress(RayError):  # a line that nobody sees is no reason to stop
            config["lines"].put({**record, "workers": workers})

    observer = DetectorObserver(plan, report, rank)
    tasks = feeding_tasks(ray.cluster_resources().get("CPU", 0.0), workers, config["cpus"])
    try:
        training.run(plan.index, partial(load_on_ray, decode=settings.decoding, tasks=tasks), observer)
    except DivergedError as error:
        if error.here:  # as in a generator's training: no restart would end otherwise
            config["lines"].put(("stopped", str(error)))
        return
    observer.finish(training)
