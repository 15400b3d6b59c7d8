"""What a person sees of a training, and what it leaves: progress lines, sample grids, the history, the bundle."""

import csv
import io
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipelines import storage
from pipelines.training.loop import Training, TrainSettings
from pipelines.training.outputs import grid_png, scores, write_bundle
from pipelines.training.source import TrainingSource, first_pairs

logger = logging.getLogger("train")

#: Held-back pairs per defect that are scored at the end.
SCORE_PAIRS = 60


class Observer:
    """Rank 0's side duties. Other ranks call the same methods, which then do nothing."""

    def __init__(
        self, settings: TrainSettings, source: TrainingSource, command_line: str, rank: int = 0
    ) -> None:
        self.settings, self.source, self.command_line, self.rank = settings, source, command_line, rank
        self.held_back = first_pairs(source, "test", SCORE_PAIRS, settings.image_size) if rank == 0 else []

    def grid(self, training: Training) -> None:
        """Write samples/step-N.png and history.csv."""
        if self.rank:
            return
        if self.held_back:
            png = grid_png(training.step_once.generator, self.source.label_map, self.held_back)
            name = f"step-{training.step:06d}.png"
            storage.write_bytes(storage.join(self.settings.output, "samples", name), png)
        if training.history:
            text = history_csv(training.history)
            storage.write_bytes(storage.join(self.settings.output, "history.csv"), text.encode())

    def finish(self, training: Training) -> None:
        """Score on held-back pairs and write the bundle."""
        if self.rank:
            return
        generator = training.step_once.generator.eval()
        settings, label_map = self.settings, self.source.label_map
        details = {
            "recipe": settings.method.recipe,
            "conditions": {
                "groups": label_map.groups,
                "types": {name: defect.id for name, defect in label_map.defects.items()},
            },
            "dataset": self.source.describe(),
            "scores": scores(generator, label_map, self.held_back),
            "training": describe(settings),
        }
        write_bundle(
            settings.output,
            generator,
            label_map,
            settings.image_size,
            self.command_line,
            details,
            training.history,
        )


def progress_line(record: Mapping[str, float], settings: TrainSettings, workers: int) -> str:
    """One line for a person: step, epoch, images/s over all workers, minutes left, losses that are in use."""
    speed = record["images_per_second"] * max(workers, 1)
    left = (settings.steps - record["step"]) * settings.batch_size / max(record["images_per_second"], 1e-9)
    names = ("total", "reconstruction", "adversarial", "cycle", "identity", "discriminator")
    losses = "  ".join(f"{name} {record[name]:.4f}" for name in names if record.get(name))
    return (
        f"step {record['step']:.0f}/{settings.steps}  epoch {record['epoch']:.0f}  {speed:.1f} images/s  "
        f"{left / 60:.0f} min left  {losses}"
    )


def history_csv(history: list[dict[str, float]]) -> str:
    """The history as CSV, one row per record."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[-1]), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def describe(settings: TrainSettings) -> dict[str, Any]:
    """The settings as JSON values, without where things lie on this machine."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(settings).items()
        if name not in ("output", "init_from")
    }
