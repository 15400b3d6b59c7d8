"""What a generator scores on the test split: FID and KID per task, L1 and PSNR where pairs are exact."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.layers import ImageGenerator
from pipelines.fid.weights import FidWeightsMissing
from pipelines.training.data import Rows
from pipelines.training.index import SOURCE, TARGET, TEST, Index
from pipelines.training.outputs import Scores, l1, psnr, translate_rows
from pipelines.training.settings import TrainSettings
from pipelines.training.source import TrainingSource, some_rows

logger = logging.getLogger("train")

#: One measurement: step, defect, n, n_reference, and where they can be had l1, psnr and psnr_before (of the n_pairs
#: sources themselves), fid, kid, kid_sd.
Measurement = dict[str, Any]
#: Starts measuring a generator at a step.
Evaluate = Callable[[int, ImageGenerator], "Future[list[Measurement]]"]


class Validator:
    """Holds the test images (settings.validation_images per defect and side) and what of them never changes.

    threads: of torch, in an actor of its own; None leaves the process alone. Images and weights are read by the first
    call.
    """

    def __init__(
        self, settings: TrainSettings, source: TrainingSource, index: Index, threads: int | None = None
    ) -> None:
        self._settings, self._source, self._index = settings, source, index
        if threads is not None:
            torch.set_num_threads(threads)
        self._rows: Rows | None = None
        self._distances: Callable[[str, NDArray[np.uint8]], dict[str, float]] | None = None

    def measure(self, step: int, generator: ImageGenerator) -> list[Measurement]:
        """The figures of one generator, a measurement per defect with test images, sorted by defect.

        L1 is on the model's scale of [-1, 1]; PSNR in dB. FID and KID compare G(x) with real y at the training
        resolution, and are absent without the Inception weights or below two images on a side.
        """
        rows = self._load(next(generator.parameters()).device)
        found = []
        for defect in sorted({row["defect"] for row in rows}):
            mine = [row for row in rows if row["defect"] == defect]
            outputs = translate_rows(generator, self._source.label_map, mine)
            pairs = [(out, row) for out, row in zip(outputs, mine, strict=True) if row["paired"]]
            one: Measurement = {"step": step, "defect": defect, "n": len(mine), "n_reference": 0}
            if pairs:
                one["n_pairs"] = len(pairs)
                one["l1"] = float(np.mean([l1(out, row["target"]) for out, row in pairs]))
                one["psnr_before"] = float(np.mean([psnr(row["source"], row["target"]) for _, row in pairs]))
                one["psnr"] = float(np.mean([psnr(out, row["target"]) for out, row in pairs]))
            found.append(one | (self._distances(defect, outputs) if self._distances is not None else {}))
        return found

    def _load(self, device: torch.device) -> Rows:
        """The sources, once; with them the real images' features."""
        if self._rows is not None:
            return self._rows
        settings, count = self._settings, self._settings.validation_images
        decoding = settings.validation_decoding
        from pipelines.training.distances import Distances

        real = some_rows(self._source, self._index, TARGET, TEST, count, decoding)
        try:
            self._distances = Distances(settings.fid_weights, device, real)
        except FidWeightsMissing:
            logger.info("validation without FID and KID")
        self._rows = some_rows(self._source, self._index, SOURCE, TEST, count, decoding)
        return self._rows


def score(measurements: Sequence[Mapping[str, Any]]) -> tuple[str, float] | None:
    """What the best checkpoint is chosen by, lower is better: the mean FID over tasks, or else the mean L1."""
    for metric in ("fid", "l1"):
        values = [one[metric] for one in measurements if one.get(metric) is not None]
        if values:
            return metric, float(np.mean(values))
    return None


def scores_of(measurements: Sequence[Mapping[str, Any]]) -> Scores:
    """What the measurements say of pairs, as a model card shows it."""
    return {
        one["defect"]: {
            "n": one["n_pairs"],
            "psnr_before": round(one["psnr_before"], 2),
            "psnr_after": round(one["psnr"], 2),
        }
        for one in measurements
        if one.get("psnr_before") is not None
    }


def measure_here(validator: Validator) -> Evaluate:
    """Measuring in this process, while the training waits."""

    def evaluate(step: int, generator: ImageGenerator) -> "Future[list[Measurement]]":
        done: Future[list[Measurement]] = Future()
        try:
            done.set_result(validator.measure(step, generator))
        except Exception as error:  # noqa: BLE001 (a measurement never ends a training; the caller says so)
            done.set_exception(error)
        return done

    return evaluate


def line(measurements: Sequence[Mapping[str, Any]]) -> str:
    """One line for a person."""
    parts = []
    for one in measurements:
        figures = [
            f"{label} {one[name]:.{digits}f}"
            for name, label, digits in (
                ("fid", "FID", 1),
                ("kid", "KID", 4),
                ("psnr", "PSNR", 2),
                ("l1", "L1", 4),
            )
            if one.get(name) is not None
        ]
        parts.append(f"{one['defect']} {', '.join(figures)} (n {one['n']})")
    step = measurements[0]["step"] if measurements else "?"
    return f"validation at step {step}: " + "; ".join(parts)
