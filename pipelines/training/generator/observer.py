"""Writes a generator training's results: records, curves, sample grids, validation, the bundle."""

import contextlib
import copy
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from model.layers import ImageGenerator
from pipelines import storage
from pipelines.images.encode import encode_image
from pipelines.shards.index import PAIRED, VALIDATION
from pipelines.training.best import Best, folder_for, point_to, would_be_best
from pipelines.training.feed.selected import some_rows
from pipelines.training.generator.loop import Training
from pipelines.training.generator.outputs import Scores, grid_image, scores, write_bundle
from pipelines.training.generator.plan import Plan
from pipelines.training.generator.validation import Evaluate, Measurement, line, score, scores_of
from pipelines.training.loop import Record
from pipelines.training.records import read_table, write_table
from pipelines.training.settings import describe

logger = logging.getLogger("train")

#: Pairs per defect of the validation part that are scored at the end and appear in the grids.
SCORE_PAIRS = 60


class Observer:
    """Follow a training (see `loop.Follower`) in rank 0; do nothing in other ranks.

    report: shows a record. show_line: shows a line of text. evaluate: starts a measurement on the validation part, or
    None. resumed_at: the step from which the training continues. A storage error while writing the final bundle is
    raised; any other only gives a warning.
    """

    def __init__(
        self,
        plan: Plan,
        report: Callable[[Record], None],
        show_line: Callable[[str], None],
        evaluate: Evaluate | None = None,
        rank: int = 0,
        resumed_at: int = 0,
    ) -> None:
        self.plan, self.settings, self.rank = plan, plan.settings, rank
        self.report, self.show_line, self.evaluate = report, show_line, evaluate
        self._running: tuple[int, ImageGenerator, Future[list[Measurement]]] | None = None
        if rank:
            return
        decoding = plan.settings.validation_decoding
        self.held_back = some_rows(plan.source, plan.index, PAIRED, VALIDATION, SCORE_PAIRS, decoding)
        self._logs = tempfile.TemporaryDirectory()
        self._tensorboard = SummaryWriter(self._logs.name)
        self._measured = [
            row for row in read_table(self._at("validation.parquet")) if row["step"] <= resumed_at
        ]

    def _at(self, *parts: str) -> str:
        return storage.join(self.settings.output, *parts)

    def record(self, training: Training, record: Record) -> None:
        """Show the record, and log it for TensorBoard."""
        if self.rank == 0:
            self.report(record)
            for name, value in record.items():
                if name != "step":
                    self._tensorboard.add_scalar(f"training/{name}", value, int(record["step"]))
            self._collect(training)

    @contextlib.contextmanager
    def _warning_if_unwritten(self, what: str) -> Iterator[None]:
        """Show storage errors inside the block as a warning."""
        try:
            yield
        except storage.STORAGE_ERRORS as error:
            self.show_line(f"warning: cannot write {what}, the training continues: {_reason(error)}")

    def grid(self, training: Training) -> None:
        """Write samples/step-N.png: rows of input, output, target."""
        if self.rank or not self.held_back:
            return
        pixels = grid_image(training.generator, self.plan.source.label_map, self.held_back)
        uri = self._at("samples", f"step-{training.step:06d}.png")
        with self._warning_if_unwritten(uri):
            storage.write_bytes(uri, encode_image(pixels, "png"))

    def saved(self, training: Training) -> None:
        """Write history.parquet, and upload TensorBoard's files."""
        if self.rank:
            return
        if training.history:
            with self._warning_if_unwritten(self._at("history.parquet")):
                write_table(self._at("history.parquet"), training.history)
        # An object cannot grow, so the files are written whole each time. They hold scalars only, to stay small.
        with self._warning_if_unwritten(self._at("tensorboard")):
            self._tensorboard.flush()
            for file in sorted(Path(self._logs.name).iterdir()):
                storage.write_bytes(self._at("tensorboard", file.name), file.read_bytes())

    def validate(self, training: Training) -> None:
        """Start measuring a copy of the generator, unless this step is measured or another measurement is running."""
        step = training.step
        if self.rank or self.evaluate is None or any(row["step"] == step for row in self._measured):
            return
        # The last step's generator becomes the bundle, so it is always measured.
        self._collect(training, wait=step == self.settings.steps)
        if self._running is not None and self._running[0] != step:
            self.show_line(
                f"step {step} is not validated: the validation of step {self._running[0]} is still running; "
                "raise --validate-every or lower --validation-images"
            )
        elif self._running is None:
            self._start(training, step, copy.deepcopy(training.generator).eval())

    def _collect(self, training: Training, wait: bool = False) -> None:
        """Handle a finished measurement, if there is one: write table, curves, and the best bundle so far."""
        if self._running is None or not (wait or self._running[2].done()):
            return
        step, generator, future = self._running
        self._running = None
        try:
            measurements = future.result()
        except Exception as error:  # noqa: BLE001 (a failed measurement never ends the training)
            self.show_line(f"validation at step {step} failed: {_reason(error)}")
            return
        self._measured = [row for row in self._measured if row["step"] != step] + measurements
        for one in measurements:
            for name in ("fid", "kid", "psnr", "l1"):
                if one.get(name) is not None:
                    self._tensorboard.add_scalar(f"{name}/{one['defect']}", one[name], step)
        self.show_line(line(measurements))
        # The table comes last: a step that it holds is not measured again (see `resumed`).
        self._keep_best(generator, training, step, measurements)
        with self._warning_if_unwritten(self._at("validation.parquet")):
            write_table(self._at("validation.parquet"), self._measured)

    def _keep_best(
        self, generator: ImageGenerator, training: Training, step: int, measurements: Sequence[Measurement]
    ) -> None:
        """Write a bundle and make it the best one, if no earlier generator scored better."""
        chosen_by, output = score(measurements), self.settings.output
        if chosen_by is None:
            return
        # Scores on different photos cannot be compared, and --resume may have changed which these are.
        settings, value = self.settings, chosen_by[1]
        photos = f"--validation-share {settings.validation_share:g} --validation-images {settings.validation_images}"
        metric = f"{chosen_by[0]}, {photos}"
        with self._warning_if_unwritten("the best bundle"):
            if would_be_best(output, metric, value):
                folder = folder_for(output, step)
                # All workers wait for this, so the held-back pairs are not scored again.
                chosen = {"chosen_by": {"metric": chosen_by[0], "mean": value, "split": "validation"}}
                self._write(folder, generator, training, step, measurements, scores_of(measurements), chosen)
                point_to(output, Best(folder, step, metric, value))

    def resumed(self, training: Training) -> None:
        """Measure the loaded checkpoint, if a crash left it without a result."""
        if training.validates:
            self.validate(training)

    def _start(self, training: Training, step: int, generator: ImageGenerator) -> None:
        assert self.evaluate is not None  # checked by the callers
        self.show_line(
            f"measuring step {step} on the validation part (--validation-share, --validation-images)"
        )
        self._running = (step, generator, self.evaluate(step, generator))
        self._collect(training)

    def finish(self, training: Training) -> None:
        """Wait for a running measurement, score the generator on held-back pairs, and write the bundle."""
        if self.rank:
            return
        self._collect(training, wait=True)
        with self._warning_if_unwritten(training.checkpoints.folder):
            training.checkpoints.prune(training.step)
        self.saved(training)
        self._tensorboard.close()
        self._logs.cleanup()
        measurements = [row for row in self._measured if row["step"] == training.step]
        generator = training.generator.eval()
        on_pairs = scores(generator, self.plan.source.label_map, self.held_back)
        self._write("bundle", generator, training, training.step, measurements, on_pairs)

    def _write(
        self,
        folder: str,
        generator: ImageGenerator,
        training: Training,
        step: int,
        measured: Sequence[Measurement],
        on_pairs: Scores,
        chosen: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a bundle. chosen: entry for config.json that states why the bundle is the best one."""
        settings, source = self.settings, self.plan.source
        label_map = source.label_map
        details = {
            "recipe": settings.method.recipe,
            "conditions": {
                "groups": label_map.groups,
                "types": {name: defect.id for name, defect in label_map.defects.items()},
            },
            "dataset": source.describe(),
            "scores": on_pairs,
            "scores_split": "validation",  # the part of 'train' that trained nothing
            "fit": settings.fit,
            "encoder_weights": self.plan.encoder,
            "training": describe(settings),
            "step": step,
            "validation": {
                row["defect"]: {name: value for name, value in row.items() if name not in ("defect", "step")}
                for row in measured
            },
            **(chosen or {}),
        }
        history = [record for record in training.history if record["step"] <= step]
        write_bundle(
            self._at(folder),
            generator,
            label_map,
            settings.image_size,
            self.plan.command_line,
            details,
            history,
        )


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
