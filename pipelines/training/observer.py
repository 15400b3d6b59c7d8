"""What a training leaves for people: records, curves, sample grids, validation, the bundle."""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tensorboardX import SummaryWriter

from pipelines import storage
from pipelines.training.index import PAIRED, TEST, Index
from pipelines.training.loop import Record, Training
from pipelines.training.outputs import grid_image, png, scores, write_bundle
from pipelines.training.settings import TrainSettings, describe
from pipelines.training.source import TrainingSource, some_rows

logger = logging.getLogger("train")

#: Held-back pairs per defect that are scored at the end and shown in the grids.
SCORE_PAIRS = 60


class Observer:
    """Follows a training (see `loop.Follower`) in rank 0; in other ranks only `report` is called.

    report: gets every record, on every rank alike.
    """

    def __init__(
        self,
        settings: TrainSettings,
        source: TrainingSource,
        index: Index,
        command_line: str,
        report: Callable[[Record], None],
        rank: int = 0,
    ) -> None:
        self.settings, self.source, self.command_line, self.rank = settings, source, command_line, rank
        self.report = report
        if rank:
            return
        self.held_back = some_rows(source, index, PAIRED, TEST, SCORE_PAIRS, settings.validation_decoding)
        self._logs = tempfile.TemporaryDirectory()
        self._tensorboard = SummaryWriter(self._logs.name)

    def record(self, training: Training, record: Record) -> None:
        """Show the record, and log it for TensorBoard."""
        self.report(record)
        if self.rank == 0:
            for name, value in record.items():
                if name != "step":
                    self._tensorboard.add_scalar(f"training/{name}", value, int(record["step"]))

    def grid(self, training: Training) -> None:
        """Write samples/step-N.png: rows of input, output, target."""
        if self.rank or not self.held_back:
            return
        pixels = grid_image(training.generator, self.source.label_map, self.held_back)
        name = f"step-{training.step:06d}.png"
        storage.write_bytes(storage.join(self.settings.output, "samples", name), png(pixels))
        self._tensorboard.add_image("samples", pixels, training.step, dataformats="HWC")

    def saved(self, training: Training) -> None:
        """Write history.parquet, and copy TensorBoard's files up."""
        if self.rank:
            return
        if training.history:
            write_table(storage.join(self.settings.output, "history.parquet"), training.history)
        self._tensorboard.flush()
        for file in sorted(Path(self._logs.name).iterdir()):
            storage.write_bytes(
                storage.join(self.settings.output, "tensorboard", file.name), file.read_bytes()
            )

    def validate(self, training: Training) -> None:
        """Nothing yet."""

    def finish(self, training: Training) -> None:
        """Score on held-back pairs and write the bundle."""
        if self.rank:
            return
        self.saved(training)
        self._tensorboard.close()
        self._logs.cleanup()
        generator = training.generator.eval()
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
            storage.join(settings.output, "bundle"),
            generator,
            label_map,
            settings.image_size,
            self.command_line,
            details,
            training.history,
        )


def write_table(uri: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Records with any keys as parquet; a record that lacks a key has null there."""
    names = sorted({name for record in records for name in record}, key=lambda name: (name != "step", name))
    table = pa.table({name: [record.get(name) for record in records] for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.write_bytes(uri, sink.getvalue().to_pybytes())
