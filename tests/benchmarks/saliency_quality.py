"""How good are the classical masks, and does the quality score detect the bad ones?

    python -m tests.benchmarks.saliency_quality [--limit N] [--saliency URI]

Uses the real sellers' photos beside the project (../shared/data/photos.parquet; without them it ends with a message).
Their masks are a network's and count as the truth here, although some are wrong. Constants were tuned on the photos of
one half, by hash of the id; quote the other half. Printed: intersection over union (masks above 0.5), mean absolute
error, time. Then, for the score of these masks: how well it ranks them (ROC-AUC for masks with IoU below BAD, also of
each of its ramps alone; Spearman's correlation with IoU), and the effect of routing to unpaired below a threshold.
Last, the score of the network's own masks against the share of uncertain pixels. Takes four to five minutes of one core
for all.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from pipelines.contracts.hashing import hash_number
from pipelines.images.decode import decode_image
from pipelines.preparation.unit.mask_quality import MaskMeasures, measure_mask
from pipelines.saliency import Saliency, load_saliency

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos.parquet"
#: Composites are visibly wrong below this IoU.
BAD = 0.8
#: Ranking is judged only if the network's mask has at most this share of uncertain pixels. Otherwise the truth is
#: unreliable, and the classical mask is often the better one.
TRUSTED = 0.06
THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8)


class Result(NamedTuple):
    """Measurements of one photo."""

    tuned: bool  # in the half that the constants were tuned on
    iou: float
    error: float  # mean |mask - truth|
    seconds: float
    made: MaskMeasures  # of the mask that was made
    given: MaskMeasures  # of the network's mask
    uncertain: float  # share of the network's mask in (0.1, 0.9)


def measured(saliency: Saliency, limit: int | None) -> Iterator[Result]:
    """Yield the results of the photos in the file's order."""
    columns = ["image_id", "image", "mask", "mask_uncertain_fraction"]
    count = 0
    for batch in pq.ParquetFile(PHOTOS).iter_batches(batch_size=64, columns=columns):
        for row in batch.to_pylist():
            if count == limit:
                return
            count += 1
            image, truth = decode_image(row["image"]), decode_image(row["mask"])[..., 0]
            started = time.process_time()
            mask = saliency([image])[0]
            seconds = time.process_time() - started
            made = np.rint(mask * 255).astype(np.uint8)
            yield Result(
                hash_number("half", row["image_id"]) % 2 == 0,
                overlap(mask > 0.5, truth > 127),
                float(np.abs(mask - truth / np.float32(255)).mean()),
                seconds,
                measure_mask(image, made),
                measure_mask(image, truth),
                row["mask_uncertain_fraction"],
            )


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the intersection over union; 1 if both are empty."""
    union = int((one | other).sum())
    return float((one & other).sum() / union) if union else 1.0


def roc_auc(score: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """Return the chance that a bad mask scores below a good one, ties counting half (Mann and Whitney)."""
    ranks = rankdata(-score)
    n_bad, n_good = int(bad.sum()), int((~bad).sum())
    if not n_bad or not n_good:
        return float("nan")
    return float((ranks[bad].sum() - n_bad * (n_bad + 1) / 2) / (n_bad * n_good))


def print_masks(name: str, results: list[Result]) -> None:
    """Print one line of IoU and error."""
    iou, error = (np.array([getattr(one, field) for one in results]) for field in ("iou", "error"))
    q = np.quantile(iou, (0.25, 0.5, 0.75))
    print(
        f"{name:6} {len(results):6}  {iou.mean():.3f}  {q[0]:.3f} {q[1]:.3f} {q[2]:.3f}  {(iou > 0.9).mean():8.1%}"
        f"  {(iou < BAD).mean():8.1%}  {error.mean():.3f} {np.median(error):.3f}"
        f"  {1000 * np.mean([one.seconds for one in results]):6.0f}"
    )


def print_ranking(name: str, results: list[Result]) -> None:
    """Print how well the score ranks the masks that were made."""
    iou = np.array([one.iou for one in results])
    bad = iou < BAD
    quality = np.array([one.made.quality() for one in results])
    ramps = {
        ramp: np.array([one.made.scores()[ramp] for one in results]) for ramp in results[0].made.scores()
    }
    print(f"\n{name}: {len(results)} masks, {bad.sum()} with IoU < {BAD}")
    print(f"  score: AUC {roc_auc(quality, bad):.3f}, Spearman with IoU {spearmanr(quality, iou)[0]:.3f}")
    print("  AUC of ramps alone: " + ", ".join(f"{r} {roc_auc(v, bad):.2f}" for r, v in ramps.items()))
    for threshold in THRESHOLDS:
        routed = quality < threshold
        hits = (routed & bad).sum()
        kept = f"{iou[~routed].mean():.3f}" if (~routed).any() else "-"
        print(
            f"  unpaired below {threshold}: {routed.mean():6.1%} of all; of them bad "
            f"{hits / max(1, routed.sum()):6.1%}; "
            f"of the bad detected {hits / max(1, bad.sum()):6.1%}; mean IoU of the rest {kept}"
        )


def print_given(results: list[Result]) -> None:
    """Print the score of the network's own masks."""
    quality = np.array([one.given.quality() for one in results])
    uncertain = np.array([one.uncertain for one in results])
    print(
        f"\nthe network's own masks: Spearman of score and uncertain share {spearmanr(quality, uncertain)[0]:.3f}"
    )
    for low, high in ((0, 0.02), (0.02, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 1.01)):
        chosen = (uncertain >= low) & (uncertain < high)
        if chosen.any():
            routed = (quality[chosen] < 0.6).mean()
            print(
                f"  uncertain share {low:.2f} to {high:.2f}: {chosen.sum():5} masks, {routed:6.1%} below 0.6"
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, help="only the first so many photos")
    parser.add_argument("--saliency", default="classical", help="a network to measure instead")
    args = parser.parse_args()
    if not PHOTOS.exists():
        print(f"skipped: the real photos are not on this machine ({PHOTOS})")
        return
    results = list(measured(load_saliency(args.saliency), args.limit))
    halves = {
        "tuned": [one for one in results if one.tuned],
        "test": [one for one in results if not one.tuned],
    }
    print("half   photos  IoU    quartiles          IoU > 0.9  IoU < 0.8  MAE  (median)  ms")
    for name, half in (*halves.items(), ("all", results)):
        if half:
            print_masks(name, half)
    for name, half in halves.items():
        trusted = [one for one in half if one.uncertain <= TRUSTED]
        if trusted:
            print_masks(name + "*", trusted)
            print_ranking(f"{name}, of which the truth is trusted", trusted)
    print_given(results)


if __name__ == "__main__":
    main()
