"""Writes a detector training's results: history, curves, the bundle with its model card."""

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from model.detector.network import Calibration, save_detector
from model.generator import parameter_count
from pipelines import storage
from pipelines.inference.bundles import upload
from pipelines.shards.index import TEST, VALIDATION
from pipelines.training.detector.calibration import at_bound
from pipelines.training.detector.loop import DetectorTraining
from pipelines.training.detector.measure import chosen_rows, measure, measured_samples
from pipelines.training.detector.plan import DetectorPlan
from pipelines.training.generator.outputs import curves_png, encoder_lines
from pipelines.training.loop import Record
from pipelines.training.records import write_table
from pipelines.training.settings import describe

logger = logging.getLogger("train")


class DetectorObserver:
    """Follow a detector's training (see `pipelines.training.loop.Follower`) in rank 0; do nothing in other ranks."""

    def __init__(self, plan: DetectorPlan, report: Callable[[Record], None], rank: int = 0) -> None:
        """report: shows a record."""
        self.plan, self.report, self.rank = plan, report, rank

    def record(self, training: DetectorTraining, record: Record) -> None:
        """Show the record."""
        if self.rank == 0:
            self.report(record)

    def saved(self, training: DetectorTraining) -> None:
        """Do nothing."""

    def grid(self, training: DetectorTraining) -> None:
        """Do nothing."""

    def validate(self, training: DetectorTraining) -> None:
        """Do nothing."""

    def resumed(self, training: DetectorTraining) -> None:
        """Do nothing."""

    def finish(self, training: DetectorTraining) -> None:
        """Calibrate, measure on the test split, and write the bundle. Raises one of storage.STORAGE_ERRORS."""
        if self.rank:
            return
        plan, settings = self.plan, self.plan.settings
        calibrations, scores = evaluate(plan, training)
        warn_of_poor(scores["labels"], settings.precision_target)
        for line in bound_lines(settings.detector.labels, calibrations):
            logger.warning("%s", line)
        details = {
            "dataset": plan.source.describe(),
            "training": {**describe(settings), "steps": training.step},
            "scores": scores,
            "scores_split": "test",
            "encoder_weights": plan.encoder,
        }
        write_detector(plan, training, calibrations, details)
        write_table(storage.join(settings.output, "history.parquet"), training.history)


def evaluate(plan: DetectorPlan, training: DetectorTraining) -> tuple[list[Calibration], dict[str, Any]]:
    """Return calibrations from the validation part, and scores on the test split."""
    settings, label_map = plan.settings, plan.source.label_map
    detector, measured = training.method.as_stored(), []
    for split in (VALIDATION, TEST):
        numbers = chosen_rows(plan.index, split, label_map, settings.validation_images)
        measured.append(measure(detector, measured_samples(plan.index, numbers, settings.decoding)))
    on_validation, on_test = measured
    calibrations = on_validation.calibrations(settings.precision_target)
    return calibrations, on_test.scores(settings.detector.labels, calibrations)


def warn_of_poor(scores: dict[str, Any], wanted: float) -> None:
    """Warn of labels that are less precise on the test split than --label-precision asks for."""
    for label, row in scores.items():
        if row["precision"] is not None and row["precision"] < wanted:
            logger.warning(
                "%s: precision %g on the test split, below --label-precision %g: train longer, or leave it off the "
                "label map",
                *(label, row["precision"], wanted),
            )


def write_detector(
    plan: DetectorPlan, training: DetectorTraining, calibrations: list[Calibration], details: dict[str, Any]
) -> None:
    """Write OUTPUT/bundle."""
    card = model_card(plan, training, calibrations, details)
    with tempfile.TemporaryDirectory() as folder:
        save_detector(Path(folder), training.method, calibrations, plan.settings.image_size, card, details)
        (Path(folder) / "curves.png").write_bytes(curves_png(training.history))
        upload(Path(folder), storage.join(plan.settings.output, "bundle"))


def model_card(
    plan: DetectorPlan, training: DetectorTraining, calibrations: list[Calibration], details: dict[str, Any]
) -> str:
    """Return the model card in Markdown: what it is, how it was trained, its scores."""
    settings = plan.settings
    return "\n".join(
        [
            "# Model card",
            "",
            f"Defect detector, backbone `{settings.detector.backbone}`, "
            f"{parameter_count(training.method):,} parameters, trained for {training.step:,} steps",
            f"at {settings.image_size} pixels on dataset `{plan.source.fingerprint[:12]}`.",
            *encoder_lines(details["encoder_weights"]),
            "",
            "## Command",
            "",
            "```",
            plan.command_line,
            "```",
            "",
            "## Scores on the test split",
            "",
            *label_table(settings.detector.labels, calibrations, details["scores"]["labels"]),
            "",
            *(line for text in bound_lines(settings.detector.labels, calibrations) for line in (text, "")),
            "AP is the average precision. Precision and recall are those at the threshold, which was chosen on photos",
            "of the training split that no step has seen. The calibration error is the mean gap between a probability",
            "and the share that is right.",
            "",
            "The share of each kind of image that gets each label (`A + B` shows both; `clean` shows none):",
            "",
            *kind_table(settings.detector.labels, details["scores"]["images"]),
            "",
            "A source's other defects count as absent here, although a person may see some.",
            "",
            "## Curves",
            "",
            "![losses](curves.png)",
            "",
            "## Settings",
            "",
            "```json",
            json.dumps(details["training"], indent=2, sort_keys=True),
            "```",
            "",
        ]
    )


def label_table(
    labels: Sequence[str], calibrations: Sequence[Calibration], scores: dict[str, Any]
) -> list[str]:
    """Return a Markdown table's lines with the scores of each label."""
    columns = ("average_precision", "precision", "recall", "calibration_error")
    lines = [
        "| label | positives | images | AP | precision | recall | calibration error | threshold |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for label, calibration in zip(labels, calibrations, strict=True):
        row = scores[label]
        cells = [str(row["positives"]), str(row["images"]), *(_cell(row[column]) for column in columns)]
        lines.append(f"| {label} | {' | '.join(cells)} | {calibration.threshold:.3f} |")
    return lines


def bound_lines(labels: Sequence[str], calibrations: Sequence[Calibration]) -> list[str]:
    """Return a sentence for each label whose scores cannot be read as probabilities."""
    return [
        f"{label}: the calibration's scale is at its bound ({calibration.scale:g}), so its scores are not "
        "probabilities and other photos may get it at random; train longer, or leave it off the label map."
        for label, calibration in zip(labels, calibrations, strict=True)
        if at_bound(calibration)
    ]


def kind_table(labels: Sequence[str], kinds: dict[str, Any]) -> list[str]:
    """Return a Markdown table's lines with the labels that each kind of image gets."""
    lines = [f"| image shows | images | {' | '.join(labels)} |", "| --- " * (2 + len(labels)) + "|"]
    return lines + [
        f"| {name} | {row['images']} | {' | '.join(_cell(share) for share in row['given'])} |"
        for name, row in kinds.items()
    ]


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
