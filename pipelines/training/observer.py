"""What a training leaves for people: records, curves, sample grids, validation, the bundle."""

import copy
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tensorboardX import SummaryWriter

from model.layers import ImageGenerator
from pipelines import storage
from pipelines.training.index import PAIRED, TEST
from pipelines.training.loop import Record, Training
from pipelines.training.outputs import grid_image, png, scores, write_bundle
from pipelines.training.plan import Plan
from pipelines.training.settings import describe
from pipelines.training.source import some_rows
from pipelines.training.validation import Evaluate, Measurement, line, score

logger = logging.getLogger("train")

#: Held-back pairs per defect that are scored at the end and shown in the grids.
SCORE_PAIRS = 60


class Observer:
    """Follows a training (see `loop.Follower`) in rank 0; in other ranks nothing happens.

    report: shows a record. tell: shows a line. evaluate: starts a measurement on the test
    split, or None. resumed_at: the step that the training goes on from.
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
        self.held_back = some_rows(plan.source, plan.index, PAIRED, TEST, SCORE_PAIRS, decoding)
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

    def grid(self, training: Training) -> None:
        """Write samples/step-N.png: rows of input, output, target."""
        if self.rank or not self.held_back:
            return
        pixels = grid_image(training.generator, self.plan.source.label_map, self.held_back)
        storage.write_bytes(self._at("samples", f"step-{training.step:06d}.png"), png(pixels))
        self._tensorboard.add_image("samples", pixels, training.step, dataformats="HWC")

    def saved(self, training: Training) -> None:
        """Write history.parquet, and copy TensorBoard's files up."""
        if self.rank:
            return
        if training.history:
            write_table(self._at("history.parquet"), training.history)
        self._tensorboard.flush()
        for file in sorted(Path(self._logs.name).iterdir()):
            storage.write_bytes(self._at("tensorboard", file.name), file.read_bytes())

    def validate(self, training: Training) -> None:
        """Start measuring a copy of the generator, unless this step is measured or the one before still is."""
        step = training.step
        if self.rank or self.evaluate is None or any(row["step"] == step for row in self._measured):
            return
        self._collect(training)
        if self._running is not None:
            self.tell(
                f"step {step} is not validated: that of step {self._running[0]} is still running; "
                "raise --validate-every or lower --validation-images"
            )
            return
        generator = copy.deepcopy(training.generator).eval()
        training.checkpoints.pending.add(step)
        self._running = (step, generator, self.evaluate(step, generator))
        self._collect(training)

    def _collect(self, training: Training, wait: bool = False) -> None:
        """Take a measurement's result, where there is one: table, curves, the best so far."""
        if self._running is None or not (wait or self._running[2].done()):
            return
        step, generator, future = self._running
        self._running = None
        try:
            found = future.result()
        except Exception as error:  # noqa: BLE001 (whatever a measurement raises, the training goes on)
            training.checkpoints.pending.discard(step)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            self.tell(f"validation at step {step} failed: {reason}")
            return
        self._measured += found
        write_table(self._at("validation.parquet"), self._measured)
        for one in found:
            for name in ("fid", "kid", "psnr", "l1"):
                if one.get(name) is not None:
                    self._tensorboard.add_scalar(f"{name}/{one['defect']}", one[name], step)
        self.tell(line(found))
        judged = score(found)
        if judged is None:
            training.checkpoints.pending.discard(step)
        elif training.checkpoints.judge(step, *judged):
            self._write("best", generator, training, step, found)

    def finish(self, training: Training) -> None:
        """Wait for a measurement under way, score on held-back pairs and write the bundle."""
        if self.rank:
            return
        self._collect(training, wait=True)
        training.checkpoints.prune(training.step)
        self.saved(training)
        self._tensorboard.close()
        self._logs.cleanup()
        found = [row for row in self._measured if row["step"] == training.step]
        self._write("bundle", training.generator.eval(), training, training.step, found)

    def _write(
        self,
        folder: str,
        generator: ImageGenerator,
        training: Training,
        step: int,
        measured: Sequence[Measurement],
    ) -> None:
        settings, source = self.settings, self.plan.source
        label_map = source.label_map
        details = {
            "recipe": settings.method.recipe,
            "conditions": {
                "groups": label_map.groups,
                "types": {name: defect.id for name, defect in label_map.defects.items()},
            },
            "dataset": source.describe(),
            "scores": scores(generator, label_map, self.held_back),
            "training": describe(settings),
            "step": step,
            "validation": {
                row["defect"]: {name: value for name, value in row.items() if name not in ("defect", "step")}
                for row in measured
            },
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


def write_table(uri: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Records with any keys as parquet; a record that lacks a key has null there."""
    names = sorted({name for record in records for name in record}, key=lambda name: (name != "step", name))
    table = pa.table({name: [record.get(name) for record in records] for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.write_bytes(uri, sink.getvalue().to_pybytes())


def read_table(uri: str) -> list[dict[str, Any]]:
    """What `write_table` wrote; nothing where nothing is."""
    try:
        content = storage.read_bytes(uri)
    except FileNotFoundError:
        return []
    return list(pq.read_table(pa.BufferReader(content)).to_pylist())
