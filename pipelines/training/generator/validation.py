"""Measures a generator on the validation part: FID and KID per defect, L1 and PSNR on exact pairs.

The best bundle is chosen by these figures, so they must not use the test split, on which jobs/evaluate.py reports.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.layers import ImageGenerator
from pipelines.contracts.label_map import LabelMap
from pipelines.metrics.fid.weights import FidWeightsMissing
from pipelines.metrics.pixel_errors import l1, psnr
from pipelines.shards.index import PAIRED, SOURCE, TARGET, VALIDATION, Index
from pipelines.shards.source import TrainingSource
from pipelines.training.feed.selected import Rows, some_rows
from pipelines.training.generator.outputs import Scores, translate_rows
from pipelines.training.generator.settings import TrainSettings

logger = logging.getLogger("train")

#: One measurement: step, defect, n, n_reference; with pairs also n_pairs, l1, psnr and psnr_before (of the sources
#: themselves); with Inception weights also fid, kid, kid_sd.
Measurement = dict[str, Any]
#: Starts measuring a generator at a step.
Evaluate = Callable[[int, ImageGenerator], "Future[list[Measurement]]"]


#: The metrics by which the best bundle may be chosen, in order of preference.
CHOICES = ("fid", "l1", "kid")
#: Images that a defect must have on either side for a choice by its FID, which is biased upward below 2,048
#: images. A judgement: raise it if the best bundle jumps between steps that look alike.
LEAST_FOR_FID = 50


class Validator:
    """Measure generators on the validation photos, settings.validation_images per defect and side.

    threads: number of torch's threads, for an actor of its own; None leaves it unchanged. The first call reads images
    and weights.
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
        """Return a measurement of the generator for each defect with photos, sorted by defect.

        L1 is on the model's scale of [-1, 1]; PSNR in dB. FID and KID compare G(x) with real y at the training
        resolution, and are absent without the Inception weights or below two images on a side.
        """
        rows = self._load(next(generator.parameters()).device)
        measurements = []
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
            measurements.append(
                one | (self._distances(defect, outputs) if self._distances is not None else {})
            )
        return measurements

    def _load(self, device: torch.device) -> Rows:
        """Return the sources; the first call reads them and the real images' features."""
        if self._rows is not None:
            return self._rows
        settings, count = self._settings, self._settings.validation_images
        decoding = settings.validation_decoding
        from pipelines.training.generator.distances import Distances

        real = some_rows(self._source, self._index, TARGET, VALIDATION, count, decoding)
        try:
            self._distances = Distances(settings.fid_weights, device, real)
        except FidWeightsMissing:
            logger.info("validation without FID and KID")
        self._rows = some_rows(self._source, self._index, SOURCE, VALIDATION, count, decoding)
        return self._rows


def score(measurements: Sequence[Mapping[str, Any]]) -> tuple[str, float] | None:
    """Return the metric that chooses the best bundle, and its mean over the defects that have it; lower is better.

    The metric is the one of CHOICES that most defects have (see `_has`); of several such, the first. None if no defect
    has any.
    """
    figures = {metric: [one[metric] for one in measurements if _has(one, metric)] for metric in CHOICES}
    metric = max(CHOICES, key=lambda name: len(figures[name]))
    return (metric, float(np.mean(figures[metric]))) if figures[metric] else None


def _has(one: Mapping[str, Any], metric: str) -> bool:
    """Return True if a measurement may choose by `metric`; by FID only from LEAST_FOR_FID images on either side."""
    if one.get(metric) is None:
        return False
    return metric != "fid" or min(one["n"], one["n_reference"]) >= LEAST_FOR_FID


def forecast(index: Index, label_map: LabelMap, settings: TrainSettings, has_weights: bool) -> dict[str, Any]:
    """Predict by which metric the best bundle will be chosen, and how many images it will be measured on.

    Returns chosen_by, one of CHOICES, or None if nothing is measured; and images, by defect the numbers of sources,
    real targets and pairs of the validation part. has_weights: FID and KID can be computed.
    """
    images = {
        name: {
            kind: min(settings.validation_images, int(index.having(defect.id, bits, VALIDATION).sum()))
            for kind, bits in (("sources", SOURCE), ("targets", TARGET), ("pairs", PAIRED))
        }
        for name, defect in label_map.defects.items()
    }
    expected = [_expected(counts, has_weights) for counts in images.values() if counts["sources"]]
    chosen = score(expected) if settings.validate_every else None
    return {"chosen_by": None if chosen is None else chosen[0], "images": images}


def _expected(counts: Mapping[str, int], has_weights: bool) -> Measurement:
    """Return a measurement of so many images, with 0 for each figure that it will have."""
    compares = has_weights and min(counts["sources"], counts["targets"]) > 1
    figures = {"l1": counts["pairs"] > 0, "fid": compares, "kid": compares}
    return {
        "n": counts["sources"],
        "n_reference": counts["targets"],
        **{name: 0.0 for name, there in figures.items() if there},
    }


def log_forecast(expected: Mapping[str, Any], settings: TrainSettings, has_weights: bool) -> None:
    """Log by which metric the best bundle will be chosen, and why not by FID. expected: the result of `forecast`."""
    chosen, images, share = expected["chosen_by"], expected["images"], settings.validation_share
    without = [name for name, counts in images.items() if not counts["sources"]]
    if len(without) == len(images):
        logger.warning(
            "--validation-share %g holds back no photo that could be measured: nothing is validated, and there is no "
            "best bundle, no sample and no score; raise it, or add photos",
            share,
        )
        return
    if without:
        logger.warning(
            "--validation-share %g holds back no photo with %s, which is not validated; raise it, or add photos",
            *(share, ", ".join(without)),
        )
    if chosen is None:
        return
    fewest = {
        name: min(counts["sources"], counts["targets"])
        for name, counts in images.items()
        if counts["sources"]
    }
    few = [f"{name} ({count})" for name, count in fewest.items() if count < LEAST_FOR_FID]
    what = "the FID of the other defects" if chosen == "fid" and few else chosen.upper()
    logger.info("the best bundle is chosen by %s on photos held back by --validation-share %g", what, share)
    if few and has_weights:
        logger.warning(
            "FID needs %d validation photos of a defect on either side, but there are fewer of %s: raise "
            "--validation-share or --validation-images, or add photos",
            *(LEAST_FOR_FID, ", ".join(few)),
        )


def scores_of(measurements: Sequence[Mapping[str, Any]]) -> Scores:
    """Return the measurements' PSNR on pairs, as a model card shows it."""
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
    """Return a function that measures in this process, while the training waits."""

    def evaluate(step: int, generator: ImageGenerator) -> "Future[list[Measurement]]":
        done: Future[list[Measurement]] = Future()
        try:
            done.set_result(validator.measure(step, generator))
        except Exception as error:  # noqa: BLE001 (a failed measurement never ends the training; the caller shows it)
            done.set_exception(error)
        return done

    return evaluate


def line(measurements: Sequence[Mapping[str, Any]]) -> str:
    """Format measurements as a line for display."""
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
