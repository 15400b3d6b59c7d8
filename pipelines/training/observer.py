"""What a training leaves for people: records, curves, sample grids, validation, the bundle."""

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
from pipelines.encode import encode_image
from pipelines.training.best import Best, folder_for, point_to, would_be_best
from pipelines.training.generator_loop import Training
from pipelines.training.index import PAIRED, VALIDATION
from pipelines.training.loop import Record
from pipelines.training.outputs import Scores, grid_image, scores, write_bundle
from pipelines.training.plan import Plan
from pipelines.training.records import read_table, write_table
from pipelines.training.settings import describe
from pipelines.training.source import some_rows
from pipelines.training.validation import Evaluate, Measurement, line, score, scores_of

logger = logging.getLogger("train")

#: Pairs per defect of the validation part that are scored at the end and shown in the grids.
SCORE_PAIRS = 60


class Observer:
    """Follows a training (see `loop.Follower`) in rank 0; in other ranks nothing happens.

    report: shows a record. tell: shows a line. evaluate: starts a measurement on the validation part, or None.
    resumed_at: the step that the training goes on from. Only the final bundle raises what the storage raises:
    everything else is worth a line, and not the training.
    """

    def __init__(
        self,
        plan: Plan,
        report: Callable[[Record], None],
        tell: Callable[[str], None],
        evaluate: Evaluate | None = None,
        rank: int = 0,
        resumed_at: int = 0,
    ) -> None:
        self.plan, self.settings, self.rank = plan, plan.settings, rank
        self.report, self.tell, self.evaluate = report, tell, evaluate
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
    def _spared(self, what: str) -> Iterator[None]:
        """Tell of what the storage raises inside the block."""
        try:
            yield
        except storage.STORAGE_ERRORS as error:
            self.tell(f"warning: cannot write {what}, the training goes on: {_reason(error)}")

    def grid(self, training: Training) -> None:
        """Write samples/step-N.png: rows of input, output, target."""
        if self.rank or not self.held_back:
            return
        pixels = grid_image(training.generator, self.plan.source.label_map, self.held_back)
        uri = self._at("samples", f"step-{training.step:06d}.png")
        with self._spared(uri):
            storage.write_bytes(uri, encode_image(pixels, "png"))

    def saved(self, training: Training) -> None:
        """Write history.parquet, and copy TensorBoard's files up."""
        if self.rank:
            return
        if training.history:
            with self._spared(self._at("history.parquet")):
                write_table(self._at("history.parquet"), training.history)
        # Whole each time, since an object cannot grow: so it holds scalars only, and the grids are in samples/.
        with self._spared(self._at("tensorboard")):
            self._tensorboard.flush()
            for file in sorted(Path(self._logs.name).iterdir()):
                storage.write_bytes(self._at("tensorboard", file.name), file.read_bytes())

    def validate(self, training: Training) -> None:
        """Start measuring a copy of the generator, unless this step is measured or the one before still is."""
        step = training.step
        if self.rank or self.evaluate is None or any(row["step"] == step for row in self._measured):
            return
        # The last one is what ships: it is always measured.
        self._collect(training, wait=step == self.settings.steps)
        if self._running is not None and self._running[0] != step:
            self.tell(
                f"step {step} is not validated: that of step {self._running[0]} is still running; "
                "raise --validate-every or lower --validation-images"
            )
        elif self._running is None:
            self._start(training, step, copy.deepcopy(training.generator).eval())

    def _collect(self, training: Training, wait: bool = False) -> None:
        """Take a measurement's result, where there is one: table, curves, the best so far."""
        if self._running is None or not (wait or self._running[2].done()):
            return
        step, generator, future = self._running
        self._running = None
        try:
            found = future.result()
        except Exception as error:  # noqa: BLE001 (whatever a measurement raises, the training goes on)
            self.tell(f"validation at step {step} failed: {_reason(error)}")
            return
        self._measured = [row for row in self._measured if row["step"] != step] + found
        for one in found:
            for name in ("fid", "kid", "psnr", "l1"):
                if one.get(name) is not None:
                    self._tensorboard.add_scalar(f"{name}/{one['defect']}", one[name], step)
        self.tell(line(found))
        # The table comes last: a step that it holds is not measured again (see `resumed`).
        self._keep_best(generator, training, step, found)
        with self._spared(self._at("validation.parquet")):
            write_table(self._at("validation.parquet"), self._measured)

    def _keep_best(
        self, generator: ImageGenerator, training: Training, step: int, found: Sequence[Measurement]
    ) -> None:
        """Write a bundle and make it the best one, where no generator before scored better."""
        judged, output = score(found), self.settings.output
        if judged is None:
            return
        # Figures of other photos do not compare: the share may be another since --resume.
        metric, value = f"{judged[0]}, --validation-share {self.settings.validation_share:g}", judged[1]
        with self._spared("the best bundle"):
            if would_be_best(output, metric, value):
                folder = folder_for(output, step)
                # No pass over the held-back pairs: all workers wait for this.
                chosen = {"chosen_by": {"metric": judged[0], "mean": value, "split": "validation"}}
                self._write(folder, generator, training, step, found, scores_of(found), chosen)
                point_to(output, Best(folder, step, metric, value))

    def resumed(self, training: Training) -> None:
        """Measure the checkpoint that was loaded, where death left it without a result."""
        if training.validates:
            self.validate(training)

    def _start(self, training: Training, step: int, generator: ImageGenerator) -> None:
        assert self.evaluate is not None  # the callers looked
        self.tell(f"measuring step {step} on the validation part (--validation-share, --validation-images)")
        self._running = (step, generator, self.evaluate(step, generator))
        self._collect(training)

    def finish(self, training: Training) -> None:
        """Wait for a measurement under way, score on held-back pairs and write the bundle."""
        if self.rank:
            return
        self._collect(training, wait=True)
        with self._spared(training.checkpoints.folder):
            training.checkpoints.prune(training.step)
        self.saved(training)
        self._tensorboard.close()
        self._logs.cleanup()
        found = [row for row in self._measured if row["step"] == training.step]
        generator = training.generator.eval()
        on_pairs = scores(generator, self.plan.source.label_map, self.held_back)
        self._write("bundle", generator, training, training.step, found, on_pairs)

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
        """chosen: what says in config.json why it is the best one."""
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
