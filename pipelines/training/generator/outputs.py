"""Makes a training's outputs: sample grids, curves, scores, the model card, the bundle."""

import io
import json
import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.bundle import save_bundle
from model.generator import parameter_count
from model.layers import ImageGenerator
from pipelines.contracts.label_map import LabelMap
from pipelines.images.pixels import to_tensor, to_uint8
from pipelines.inference.bundles import upload
from pipelines.metrics.pixel_errors import psnr
from pipelines.training.display import is_loss
from pipelines.training.feed.selected import Rows

logger = logging.getLogger("train")

#: Per defect: n, the number of pairs; psnr_before, psnr_after: their mean PSNR in dB before and after correction.
Scores = dict[str, dict[str, float]]
#: Rows per defect in a sample grid.
GRID_ROWS = 4


@torch.inference_mode()
def translate_rows(generator: ImageGenerator, label_map: LabelMap, rows: Rows) -> NDArray[np.uint8]:
    """Return G_XY of the rows' decoded sources, uint8 (N, S, S, 3), computed in batches of 8."""
    device = next(generator.parameters()).device
    training, conditions = generator.training, label_map.conditions
    generator.eval()
    outputs = []
    for start in range(0, len(rows), 8):
        part = rows[start : start + 8]
        ids = torch.tensor([conditions[row["defect"]] for row in part], device=device)
        x = to_tensor(np.stack([row["source"] for row in part]), device)
        outputs.append(to_uint8(generator(x, ids[:, 0], ids[:, 1])))
    generator.train(training)
    return np.concatenate(outputs)


def grid_image(generator: ImageGenerator, label_map: LabelMap, rows: Rows) -> NDArray[np.uint8]:
    """Draw a grid, uint8: a row per sample with the columns x, G(x), y; at most GRID_ROWS samples of each defect."""
    chosen: dict[str, Rows] = defaultdict(list)
    for row in rows:
        if len(chosen[row["defect"]]) < GRID_ROWS:
            chosen[row["defect"]].append(row)
    samples = [row for defect in sorted(chosen) for row in chosen[defect]]
    outputs = translate_rows(generator, label_map, samples)
    lines = [
        np.concatenate([row["source"], out, row["target"]], axis=1)
        for row, out in zip(samples, outputs, strict=True)
    ]
    return np.concatenate(lines)


def scores(generator: ImageGenerator, label_map: LabelMap, rows: Rows) -> Scores:
    """Return per defect the number of held-back pairs, and their mean PSNR in dB before and after correction."""
    figures: dict[str, list[tuple[float, float]]] = defaultdict(list)
    if rows:
        for row, out in zip(rows, translate_rows(generator, label_map, rows), strict=True):
            figures[row["defect"]].append((psnr(row["source"], row["target"]), psnr(out, row["target"])))
    return {
        defect: {
            "n": len(values),
            "psnr_before": round(float(np.mean([before for before, _ in values])), 2),
            "psnr_after": round(float(np.mean([after for _, after in values])), 2),
        }
        for defect, values in sorted(figures.items())
    }


def curves_png(history: Iterable[Mapping[str, float]]) -> bytes:
    """Plot the losses over steps as a PNG, smoothed by a running mean because single batches are noisy."""
    from matplotlib.figure import Figure

    records = list(history)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps = np.array([record["step"] for record in records])
    window = max(1, len(records) // 40)
    # Every method has terms of its own. Not the total: it is weighted, and the axis is not.
    names = {name for record in records for name in record if is_loss(name)}
    for name in sorted(names - {"total"}):
        values = np.array([record.get(name, 0.0) for record in records])
        if values.any():
            smooth = np.convolve(values, np.ones(window) / window, mode="valid")
            axes.plot(steps[window - 1 :], smooth, label=name)
    axes.set(xlabel="step", ylabel="loss (unweighted)", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def model_card(
    command: str,
    details: Mapping[str, Any],
    generator: ImageGenerator,
    history: Sequence[Mapping[str, float]],
) -> str:
    """Return the bundle's model card in Markdown: what it is, how it was trained, its scores and curves."""
    table = [
        "| defect | validation pairs | PSNR before (dB) | PSNR after (dB) |",
        "| --- | --- | --- | --- |",
    ]
    table += [
        f"| {defect} | {score['n']} | {score['psnr_before']:.2f} | {score['psnr_after']:.2f} |"
        for defect, score in details["scores"].items()
    ]
    config = json.dumps(details["training"], indent=2, sort_keys=True)
    last = history[-1]["step"] if history else 0
    return "\n".join(
        [
            "# Model card",
            "",
            f"Conditional image-to-image generator, recipe `{details['recipe']}`, "
            f"{parameter_count(generator):,} parameters,",
            f"trained for {last:,} steps at {details['image_size']} pixels on dataset "
            f"`{details['dataset']['fingerprint'][:12]}`.",
            *encoder_lines(details.get("encoder_weights")),
            "",
            "## Command",
            "",
            "```",
            command,
            "```",
            "",
            "## Pairs of the validation part",
            "",
            *table,
            "",
            "Measured at the training resolution, on photos of the training split that no step has learned from",
            "(`--validation-share`), by which the best bundle is chosen. The test split is left to `jobs/evaluate.py`.",
            "",
            "## Curves",
            "",
            "![losses](curves.png)",
            "",
            "## Settings",
            "",
            "```json",
            config,
            "```",
            "",
        ]
    )


def encoder_lines(weights: Mapping[str, str] | None) -> list[str]:
    """Return lines for a model card: the source and the licence of a pretrained encoder's weights."""
    if weights is None:
        return []
    return ["", f"Its encoder started from {weights['source']}, licence: {weights['licence']}."]


def write_bundle(
    target: str,
    generator: ImageGenerator,
    label_map: LabelMap,
    image_size: int,
    command: str,
    details: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
) -> None:
    """Write a bundle to the folder `target`."""
    card = model_card(command, {**details, "image_size": image_size}, generator, history)
    with tempfile.TemporaryDirectory() as folder:
        save_bundle(Path(folder), generator, label_map.to_yaml(), image_size, card, details)
        (Path(folder) / "curves.png").write_bytes(curves_png(history))
        upload(Path(folder), target)
